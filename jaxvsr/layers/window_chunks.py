"""Functions of windows, computed for a few windows at a time where that is faster."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxvsr.distributed import spatial_sharding

CPU_WINDOWS = 8  # per chunk: their activations fit a core's cache


@functools.partial(jax.jit, static_argnums=0)
def map_chunks(compute: Callable[[Any, Any], Any], weights: Any, windows: Any) -> Any:
    """Computes `compute(weights, windows)`, on a CPU in chunks that fit its cache.

    Args:
        compute: maps weights and a tree of arrays (w, ...) to a tree of arrays (w, ...), each
            window independently of the others. A module-level function is traced once for all
            calls of the same shapes.
        weights: a tree.
        windows: the tree of arrays for all windows.

    Returns:
        The tree of outputs for all windows.
    """
    return spatial_sharding.by_windows(functools.partial(_map_chunks, compute), weights, windows)


def _map_chunks(compute: Callable[[Any, Any], Any], weights: Any, windows: Any) -> Any:
    n = jax.tree.leaves(windows)[0].shape[0]
    if not isinstance(n, int):  # of an exported program with a symbolic batch size
        return compute(weights, windows)
    count = -(-n // CPU_WINDOWS)
    size = -(-n // count)

    def chunk(start: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), windows)

    def step(i: Any, outputs: Any) -> Any:
        start = jnp.minimum(i * size, n - size)  # the last chunk may overlap the one before
        return jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, start, 0),
            outputs,
            compute(weights, chunk(start)),
        )

    def chunked() -> Any:
        shapes = jax.eval_shape(compute, weights, jax.eval_shape(lambda: chunk(0)))
        outputs = jax.tree.map(lambda x: jnp.zeros((n, *x.shape[1:]), x.dtype), shapes)
        return jax.lax.fori_loop(0, count, step, outputs)

    return jax.lax.platform_dependent(cpu=chunked, default=lambda: compute(weights, windows))
