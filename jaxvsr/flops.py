"""FLOPs of a program and peak FLOP/s of a device, for model FLOP/s utilization."""

import collections
import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

# Dense bf16 FLOP/s of a chip, by the vendors' data sheets.
PEAK = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,  # v5p
    "TPU v6 lite": 918e12,
    "TPU7x": 2307e12,
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "RTX 4090": 165e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
}

# Operations that the TensorFlow Lite converter counts as one, by the name of our function, and
# their cost as a function of the output shape.
FUSED: dict[str, Callable[[tuple[int, ...]], float]] = {
    "resize": lambda shape: 0,
    "layer_norm": lambda shape: (5 * shape[-1] + 1) * math.prod(shape[:-1]),
}


def count(function: Callable, *args: Any) -> float:
    """Counts the FLOPs of matrix products and convolutions of a call; a multiply-add is two.

    FLOPs are counted on the jaxpr, with loop bodies times their number of iterations, which the
    compiler's estimate leaves out. Of a conditional, the most expensive branch counts.

    Args:
        function: a pure function.
        *args: arrays or `jax.ShapeDtypeStruct`s; nothing is computed.

    Returns:
        The number of FLOPs.
    """
    return sum(by_scope(jax.make_jaxpr(function)(*args)).values())


def by_scope(jaxpr: Any) -> dict[str, float]:
    """Counts FLOPs as `count` does, by named scope.

    Args:
        jaxpr: from `jax.make_jaxpr` or of a traced function, closed or open.

    Returns:
        "outer/inner" -> FLOPs. Modules, their methods and `jnp.einsum` have named scopes; FLOPs
        outside of any scope are under "".
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    total: dict[str, float] = collections.defaultdict(float)
    for eqn in jaxpr.eqns:
        name, params = eqn.primitive.name, eqn.params
        if name == "dot_general":
            inside = [{"": _dot_flops(eqn)}]
        elif name == "conv_general_dilated":
            inside = [{"": _conv_flops(eqn)}]
        elif name == "pallas_call":
            inside = []  # its plain form counts, the branch for other platforms
        elif name == "cond":
            inside = [max(map(by_scope, params["branches"]), key=lambda b: sum(b.values()))]
        else:
            inside = [by_scope(value) for value in params.values() if _is_jaxpr(value)]
        outer = str(eqn.source_info.name_stack)
        for inner, flops in itertools.chain(*(scopes.items() for scopes in inside)):
            total["/".join(filter(None, (outer, inner)))] += flops * params.get("length", 1)
    return {scope: flops for scope, flops in total.items() if flops}


def log_convention(function: Callable, *args: Any) -> float:
    """Counts arithmetic operations of a call as the mobile networks' work log does.

    The convention is that of the TensorFlow Lite converter. A convolution costs 2 per
    multiplication, and 1 per output for a bias, with or without one. A sigmoid costs 64, and a sum,
    difference or product of two activations costs 1 per element. A matrix product of activations
    costs 2 per multiplication. Everything else costs 0, as do operations on weights and constants
    alone, which are folded. Weights are the inputs in the collections "params" and "batch_stats".

    Args:
        function: a pure function, such as `model.apply`.
        *args: arrays or `jax.ShapeDtypeStruct`s; nothing is computed.

    Returns:
        The number of operations.
    """

    def is_weight(path: tuple, _: Any) -> bool:
        return any(getattr(key, "key", None) in ("params", "batch_stats") for key in path)

    weights = jax.tree.leaves(jax.tree_util.tree_map_with_path(is_weight, args))
    return _converted(jax.make_jaxpr(function)(*args).jaxpr, weights)[0]


def data_sheet(kind: str) -> float | None:
    """Peak FLOP/s of a chip by its data sheet.

    Args:
        kind: a device's `device_kind`.

    Returns:
        FLOP/s; None for an unknown chip.
    """
    return next((value for name, value in PEAK.items() if name in kind), None)


def peak() -> float:
    """Peak FLOP/s of one device.

    Returns:
        The data sheet's FLOP/s; for unknown devices, such as a CPU, the FLOP/s of a large float32
        matrix product.
    """
    if sheet := data_sheet(jax.devices()[0].device_kind):
        return sheet
    n = 2048
    x = jnp.ones((n, n), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    product(x).block_until_ready()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        product(x).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * n**3 / min(times)


def _converted(jaxpr: Any, weights: list[bool]) -> tuple[float, list[bool]]:
    """Cost of a jaxpr in the work log's convention, and which of its outputs are weights."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    fixed = dict.fromkeys(jaxpr.constvars, True) | dict(zip(jaxpr.invars, weights, strict=True))

    def is_fixed(x: Any) -> bool:
        return hasattr(x, "val") or fixed[x]

    total = 0.0
    for eqn in jaxpr.eqns:
        inputs = [is_fixed(x) for x in eqn.invars]
        cost, outputs = (0.0, [True] * len(eqn.outvars)) if all(inputs) else _priced(eqn, inputs)
        total += cost
        fixed |= dict(zip(eqn.outvars, outputs, strict=True))
    return total, [is_fixed(x) for x in jaxpr.outvars]


def _priced(eqn: Any, fixed: list[bool]) -> tuple[float, list[bool]]:
    """`_converted` of one operation with activations among its inputs."""
    name, params, shape = eqn.primitive.name, eqn.params, eqn.outvars[0].aval.shape
    size, changing = math.prod(shape), [False] * len(eqn.outvars)
    inner = next((value for value in params.values() if _is_jaxpr(value)), None)
    if name == "conv_general_dilated":
        return _conv_flops(eqn) + size, changing
    if name == "dot_general":
        return _dot_flops(eqn), changing
    if name == "logistic":
        return 64 * size, changing
    if name in ("add", "sub", "mul", "square"):
        return 0 if any(fixed) else size, changing
    if params.get("name") in FUSED:
        return FUSED[params["name"]](shape), changing
    if name == "scan":
        # Inputs are constants, then the carry, then arrays sliced by iteration.
        body: Any = getattr(inner, "jaxpr", inner)
        last = _unsliced(eqn.invars, body.invars)
        known = last - _unsliced(eqn.outvars, body.outvars)
        inside = [f and not known <= i < last for i, f in enumerate(fixed)]
        return params["length"] * _converted(inner, inside)[0], changing
    if name == "cond":
        return max(_converted(branch, fixed[1:])[0] for branch in params["branches"]), changing
    return (0.0, changing) if inner is None else _converted(inner, fixed)


def _unsliced(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """Number of values that have the same rank inside a loop as outside."""
    return sum(x.aval.ndim == y.aval.ndim for x, y in zip(outside, inside, strict=True))


def _conv_flops(eqn: Any) -> float:
    kernel = eqn.invars[1].aval.shape
    features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
    return 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(kernel) / features


def _dot_flops(eqn: Any) -> float:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    lhs = eqn.invars[0].aval.shape
    return 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(lhs[axis] for axis in contracted)


def _is_jaxpr(value: Any) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")
