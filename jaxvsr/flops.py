"""Arithmetic that a program does and that a device could do, for model FLOP/s utilisation."""

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
}

# What the converter to TensorFlow Lite knows as one operation, by the name of its function here:
# how often it counts, of the shape of its result.
FUSED: dict[str, Callable[[tuple[int, ...]], float]] = {
    "resize": lambda shape: 0,
    "layer_norm": lambda shape: (5 * shape[-1] + 1) * math.prod(shape[:-1]),
}


def count(function: Callable, *args: Any) -> float:
    """FLOPs of the matrix products and convolutions of a call, a multiply-add as two.

    Counted on the jaxpr, a loop's body as often as it runs: the compiler's own estimate counts
    it once. Of a conditional's branches the dearest counts.

    Args:
        function: pure, of arrays or shapes.
        *args: arrays or `jax.ShapeDtypeStruct`s; nothing is computed.
    """
    return sum(by_scope(jax.make_jaxpr(function)(*args)).values())


def by_scope(jaxpr: Any) -> dict[str, float]:
    """FLOPs as `count` has them, by the named scopes that they are computed in.

    Args:
        jaxpr: closed or not: of `jax.make_jaxpr`, or a traced function's.

    Returns:
        "outer/inner" -> FLOPs; modules name scopes, and so do their methods and `jnp.einsum`. What
        is in no scope is under "".
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    total: dict[str, float] = collections.defaultdict(float)
    for eqn in jaxpr.eqns:
        name, params = eqn.primitive.name, eqn.params
        if name == "dot_general":
            inside = [{"": _dot_flops(eqn)}]
        elif name == "conv_general_dilated":
            inside = [{"": _conv_flops(eqn)}]
        elif name == "cond":
            inside = [max(map(by_scope, params["branches"]), key=lambda b: sum(b.values()))]
        else:
            inside = [by_scope(value) for value in params.values() if _is_jaxpr(value)]
        outer = str(eqn.source_info.name_stack)
        for inner, flops in itertools.chain(*(scopes.items() for scopes in inside)):
            total["/".join(filter(None, (outer, inner)))] += flops * params.get("length", 1)
    return {scope: flops for scope, flops in total.items() if flops}


def log_convention(function: Callable, *args: Any) -> float:
    """Arithmetic operations of a call as the mobile networks' work log counts them.

    They are the TensorFlow Lite converter's estimate: of each output of a convolution 2 for a
    product and 1 for a bias, whether there is one or not; 64 of a sigmoid; 1 of a sum, a difference
    or a product of two activations; 2 of each product in a matrix product of activations. What only
    weights and numbers enter is done before, or melts into a neighbouring convolution: 0, as is
    everything else. Which inputs are weights is told by the collections "params" and "batch_stats".

    Args:
        function: pure, of arrays or shapes; for instance `model.apply`.
        *args: arrays or `jax.ShapeDtypeStruct`s; nothing is computed.
    """

    def is_weight(path: tuple, _: Any) -> bool:
        return any(getattr(key, "key", None) in ("params", "batch_stats") for key in path)

    weights = jax.tree.leaves(jax.tree_util.tree_map_with_path(is_weight, args))
    return _converted(jax.make_jaxpr(function)(*args).jaxpr, weights)[0]


def data_sheet(kind: str) -> float | None:
    """FLOP/s of a chip by its data sheet; None where it is not known.

    Args:
        kind: a device's `device_kind`.
    """
    return next((value for name, value in PEAK.items() if name in kind), None)


def peak() -> float:
    """FLOP/s that one device could do: by its data sheet or, where none is known (a CPU),
    measured on a large float32 matrix product."""
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
    """What a jaxpr counts in the log's convention, and which outputs are weights, as are inputs."""
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
    """`_converted` of one operation that activations enter."""
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
        # Constants, then what is carried, then what each turn takes a slice of.
        body: Any = getattr(inner, "jaxpr", inner)
        last = _unsliced(eqn.invars, body.invars)
        known = last - _unsliced(eqn.outvars, body.outvars)
        inside = [f and not known <= i < last for i, f in enumerate(fixed)]
        return params["length"] * _converted(inner, inside)[0], changing
    if name == "cond":
        return max(_converted(branch, fixed[1:])[0] for branch in params["branches"]), changing
    return (0.0, changing) if inner is None else _converted(inner, fixed)


def _unsliced(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """How many values have in a loop the shape that they have around it."""
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
