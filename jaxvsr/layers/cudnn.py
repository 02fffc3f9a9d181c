"""Window attention by cuDNN on NVIDIA GPUs, whose logits never reach the GPU's main memory.

cuDNN computes softmax(q k + bias) v in one kernel, forward and backward, in 16 bits and for heads
of a multiple of 8 channels. Heads of other sizes are padded in the kernels of the projections, so
that no activation is copied. What depends on a token's place enters through further channels of
the tokens: cuDNN then needs neither a mask nor a bias for each window.
"""

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxvsr.kernels import switch

MULTIPLE = 8  # of the channels that cuDNN and cuBLAS take without copies
MAX_DEPTH = 128  # channels per head, of all GPUs that cuDNN supports
DIRECTIONS = 2  # channels per head that identify regions
PENALTY = 100.0  # subtracted from logits between regions, as in the official codes
PARTS = 8  # regions of a window at most: two along each of three axes


def takes(dtype: Any, windows: Any, queries: int, keys: int, depth: int) -> bool:
    """Whether cuDNN computes attention, forward and backward.

    Args:
        dtype: of the computation.
        windows: their number; symbolic in a program that is exported, which runs without cuDNN.
        queries, keys: tokens per window.
        depth: channels per head.

    Returns:
        Whether the dtype has 16 bits, the numbers of tokens are even, and cuDNN is available and
        not turned off.
    """
    half = jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16)
    fits = queries % 2 == 0 and keys % 2 == 0 and depth + DIRECTIONS <= MAX_DEPTH
    return switch.is_on() and half and fits and isinstance(windows, int) and _available()


@functools.cache
def _available() -> bool:
    """Whether JAX finds cuDNN, and, where there is a GPU, cuDNN supports it.

    Without cuDNN `jax.nn.dot_product_attention` cannot be traced for any platform, and for a GPU
    older than compute capability 8.0 it does not compile.
    """

    def output(x: Array, bias: Array) -> Array:
        attend = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
        return attend(x, x, x, bias).astype(jnp.float32).sum()

    x, bias = (
        jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((1, 64, 1, 24), (1, 1, 64, 64))
    )
    try:
        traced = jax.jit(jax.grad(output, argnums=(0, 1))).trace(x, bias)
        if jax.default_backend() == "gpu":
            traced.lower().compile()
    except (RuntimeError, NotImplementedError, ValueError):
        return False
    return True


def attention(
    queries: Float[Array, "w q c"],
    keys: Float[Array, "w k c"],
    qkv: tuple[Float[Array, "c 3*c"], Float[Array, " 3*c"]],
    bias: Float[Array, "heads _ _"],
    proj: Float[Array, "c c_out"],
    *,
    regions: tuple[Int[Array, "w q"], Int[Array, "w k"]] | None = None,
    outside: tuple[Bool[Array, "w k"], Float[Array, " 2*c"]] | None = None,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Float[Array, "w q c_out"]:
    """Multi-head attention in windows, with the projections before and after it.

    Args:
        queries: tokens from which queries are made.
        keys: tokens from which keys and values are made.
        qkv: kernel and bias of the projection to queries, keys and values.
        bias: added to the logits. One value per head has no effect.
        proj: kernel of the output projection, whose bias is left to the caller.
        regions: of `windows.shift_regions` for queries and keys: tokens attend only within their
            region. None: to all tokens of their window.
        outside: tokens that are padding, and their keys and values in place of those from `qkv`'s
            bias; such tokens must be zero. None: there are none.
        implementation: of `jax.nn.dot_product_attention`.

    Returns:
        (w, q, c_out).
    """
    num_heads, depth = bias.shape[0], keys.shape[-1] // bias.shape[0]
    scale = depth**-0.5
    width = _round_up(depth + DIRECTIONS * (regions is not None))

    def padded(x: Array) -> Array:
        """Pads each head from `depth` to `width` channels."""
        heads = x.reshape(*x.shape[:-1], num_heads, depth)
        return _pad(heads, width).reshape(*x.shape[:-1], num_heads * width)

    kernels, offsets = ([padded(part) for part in jnp.split(x, 3, axis=-1)] for x in qkv)
    # For queries, keys and values: further channels of the tokens, and their rows of the kernel.
    # Keys and values have the same channels, and thus the same tokens.
    marks: list[list[tuple[Array, Array]]] = [[], [], []]
    if regions is not None:
        unit = np.zeros((DIRECTIONS, num_heads, width), np.float32)
        unit[0, :, depth] = unit[1, :, depth + 1] = 1
        rows = jnp.asarray(unit.reshape(DIRECTIONS, -1))
        of_queries, of_keys = (_directions(each, scale) for each in regions)
        marks[0].append((of_queries, rows))
        marks[1].append((of_keys, rows))
        marks[2].append((of_keys, jnp.zeros_like(rows)))
    if outside is not None:
        where, others = outside
        channels = jnp.stack([where, ~where], axis=-1)
        for i, other in zip((1, 2), jnp.split(others, 2), strict=True):
            marks[i].append((channels, jnp.stack([padded(other), offsets[i]])))
            offsets[i] = jnp.zeros_like(offsets[i])
    q, k, v = (
        _project(*each).reshape(*each[0].shape[:-1], num_heads, width)
        for each in zip((queries, keys, keys), kernels, offsets, marks, strict=True)
    )
    bias = bias.astype(q.dtype)[None]
    out = jax.nn.dot_product_attention(
        q,
        k,
        v,
        bias if bias[0, 0].size > 1 else None,
        scale=scale,
        implementation=implementation,
    )
    return out.reshape(*out.shape[:-2], -1) @ padded(proj.T).T.astype(out.dtype)


def _project(
    tokens: Float[Array, "w t c"],
    kernel: Float[Array, "c c_out"],
    offset: Float[Array, " c_out"],
    marks: list[tuple[Array, Array]],
) -> Float[Array, "w t c_out"]:
    """Dense layer of tokens with further channels (w, t, n), whose rows are (n, c_out)."""
    if marks:
        channels, rows = zip(*marks, strict=True)
        tokens = jnp.concatenate([tokens, *(x.astype(tokens.dtype) for x in channels)], axis=-1)
        kernel = jnp.concatenate([kernel, *rows])
        tokens, kernel = (_pad(x, _round_up(x.shape[-1])) for x in (tokens, kernel.T))
        kernel = kernel.T
    return tokens @ kernel.astype(tokens.dtype) + offset.astype(tokens.dtype)


def _round_up(channels: int) -> int:
    return -(-channels // MULTIPLE) * MULTIPLE


def _pad(x: Float[Array, "*n c"], width: int) -> Float[Array, "*n {width}"]:
    """Pads the last axis with zeros."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])])


def _directions(regions: Int[Array, "w tokens"], scale: float) -> Float[Array, "w tokens 2"]:
    """Vectors whose scaled products are equal within a region, and less by PENALTY across regions.

    A label of `windows.shift_regions` has a ternary digit per axis. In a window the digit is 0
    everywhere, or 1 before the seam and 2 after it. So three bits identify the regions of a window,
    which become directions in a plane. A product that is the same for all keys that a query attends
    to does not change the softmax.
    """
    part = sum((regions // 3**axis % 3 == 2) * 2**axis for axis in range(3))
    angle = part * (2 * math.pi / PARTS)
    length = math.sqrt(PENALTY / scale / (1 - math.cos(2 * math.pi / PARTS)))
    return length * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
