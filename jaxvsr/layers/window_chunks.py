"""Functions of windows, computed for a few windows at a time where that is faster."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxvsr.distributed import spatial_sharding

# Windows per iteration, and elements of their largest intermediate array.
CPU_WINDOWS, CPU_ELEMENTS = 8, 2**21  # their activations fit a core's cache
TPU_WINDOWS, TPU_ELEMENTS = 40, 2**24  # their activations fit the vector memory of a TPU


@functools.partial(jax.jit, static_argnums=0, static_argnames=("clips", "largest"))
def map_chunks(
    compute: Callable[[Any, Any], Any],
    weights: Any,
    windows: Any,
    *,
    clips: int = 1,
    largest: int = 1,
) -> Any:
    """Computes `compute(weights, windows)`, in chunks of windows on a CPU and on a TPU.

    The chunks' activations stay in the CPU's cache or in the TPU's vector memory. Other platforms
    compute all windows at once: a GPU's kernels pass their results through main memory anyway.

    Args:
        compute: maps weights and a tree of arrays (w, ...) to a tree of arrays (w, ...), each
            window independently of the others. A module-level function is traced once for all
            calls of the same shapes.
        weights: a tree.
        windows: the tree of arrays for all windows, clip after clip.
        clips: their number. A chunk holds windows of every clip, so that devices among which XLA
            divides the clips each compute their own.
        largest: elements of a window's largest intermediate array, such as the logits of attention;
            a chunk has fewer windows where it is large.

    Returns:
        The tree of outputs for all windows.
    """
    function = functools.partial(_map_chunks, compute, clips, largest)
    return spatial_sharding.by_windows(function, weights, windows)


def _map_chunks(
    compute: Callable[[Any, Any], Any], clips: int, largest: int, weights: Any, windows: Any
) -> Any:
    total = jax.tree.leaves(windows)[0].shape[0]
    if not isinstance(total, int):  # of an exported program with a symbolic batch size
        return compute(weights, windows)
    if jax.sharding.get_abstract_mesh().manual_axes:
        clips = 1  # all of these windows are on one device
    each = total // clips

    def chunked(most: int, elements: int) -> Any:
        most = min(most, max(elements // largest, 1))
        count = -(-each // max(most // clips, 1))
        size = -(-each // count)
        by_clip = jax.tree.map(lambda x: x.reshape(clips, each, *x.shape[1:]), windows)

        def chunk(start: Any) -> Any:
            part = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size, 1), by_clip)
            flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), part)
            # Read once, not by every operation that uses it.
            out = compute(weights, _read_once(flat))
            return jax.tree.map(lambda x: x.reshape(clips, size, *x.shape[1:]), out)

        def step(i: Any, outputs: Any) -> Any:
            start = jnp.minimum(i * size, each - size)  # the last may overlap the one before
            return jax.tree.map(
                lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, start, 1),
                outputs,
                chunk(start),
            )

        shapes = jax.eval_shape(chunk, 0)
        outputs = jax.tree.map(lambda x: jnp.zeros((clips, each, *x.shape[2:]), x.dtype), shapes)
        outputs = jax.lax.fori_loop(0, count, step, outputs)
        return jax.tree.map(lambda x: x.reshape(total, *x.shape[2:]), outputs)

    return jax.lax.platform_dependent(
        cpu=functools.partial(chunked, CPU_WINDOWS, CPU_ELEMENTS),
        tpu=functools.partial(chunked, TPU_WINDOWS, TPU_ELEMENTS),
        default=lambda: compute(weights, windows),
    )


@jax.custom_jvp
def _read_once(chunk: Any) -> Any:
    """Keeps XLA from reading a chunk again in each operation that uses it."""
    return jax.lax.optimization_barrier(chunk)


@_read_once.defjvp
def _(chunk: tuple[Any], tangent: tuple[Any]) -> tuple[Any, Any]:
    # JAX 0.11.2 cannot transpose a barrier of arrays of which some need no gradient.
    return _read_once(*chunk), tangent[0]
