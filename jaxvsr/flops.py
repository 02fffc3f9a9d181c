"""Arithmetic that a program does and that a device could do, for model FLOP/s utilisation."""

import collections
import math
import time
from collections.abc import Callable
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
        outer, params = str(eqn.source_info.name_stack), eqn.params
        total[outer] += _of_equation(eqn)
        if eqn.primitive.name == "cond":
            inside = [max(map(by_scope, params["branches"]), key=lambda b: sum(b.values()))]
        else:
            inside = [by_scope(value) for value in params.values() if _is_jaxpr(value)]
        for scopes in inside:
            for inner, flops in scopes.items():
                total["/".join(filter(None, (outer, inner)))] += flops * params.get("length", 1)
    return {scope: flops for scope, flops in total.items() if flops}


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


def _of_equation(eqn: Any) -> float:
    """FLOPs of an equation itself, without those of what it calls."""
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        lhs, out = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
        return 2 * math.prod(out) * math.prod(lhs[axis] for axis in contracted)
    if eqn.primitive.name == "conv_general_dilated":
        kernel, out = eqn.invars[1].aval.shape, eqn.outvars[0].aval.shape
        features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        return 2 * math.prod(out) * math.prod(kernel) / features
    return 0.0


def _is_jaxpr(value: Any) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")
