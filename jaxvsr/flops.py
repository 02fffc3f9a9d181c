"""Arithmetic that a program does and that a device could do, for model FLOP/s utilisation."""

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
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
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
    return _count(jax.make_jaxpr(function)(*args))


def peak() -> float:
    """FLOP/s that one device could do: by its data sheet or, where none is known (a CPU),
    measured on a large float32 matrix product."""
    kind = jax.devices()[0].device_kind
    for name, value in PEAK.items():
        if name in kind:
            return value
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


def _count(jaxpr: Any) -> float:
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)  # closed or not
    total = 0.0
    for eqn in jaxpr.eqns:
        name, params = eqn.primitive.name, eqn.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            lhs, out = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
            total += 2 * math.prod(out) * math.prod(lhs[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel, out = eqn.invars[1].aval.shape, eqn.outvars[0].aval.shape
            features = kernel[params["dimension_numbers"].rhs_spec[0]]
            total += 2 * math.prod(out) * math.prod(kernel) / features
        elif name == "cond":
            total += max(_count(branch) for branch in params["branches"])
        else:
            inner = sum(_count(value) for value in params.values() if _is_jaxpr(value))
            total += inner * params.get("length", 1)
    return total


def _is_jaxpr(value: Any) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")
