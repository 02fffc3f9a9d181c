"""How much tokens changed since the previous frame, as one kernel for NVIDIA GPUs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float, Float32

from jaxvsr.kernels.block_gpu import load, normalize, padded, store

WARPS = 4


def fits(tokens: int, dim: int, dtype: Any) -> bool:
    """Whether the kernel measures windows of this size, on a GPU.

    Args:
        tokens: of a window.
        dim: channels.
        dtype: of the computation.
    """
    half = dtype in (jnp.bfloat16, jnp.float16)
    return half and tokens & (tokens - 1) == 0 and tokens * dim <= 2**14


@functools.partial(jax.jit, static_argnames="interpret")
def measure(
    weight: Float32[Array, " c"],
    x: Float[Array, "w tokens c"],
    last: Float[Array, "w tokens c"],
    *,
    interpret: bool = False,
) -> tuple[Float32[Array, "w tokens 1"], Float[Array, "w tokens c"]]:
    """Normalizes tokens, and weighs their change since the previous frame.

    Args:
        weight: of the channels.
        x: tokens of the current frame; their number is a power of two.
        last: normalized tokens of the previous frame, whose place the result takes.
        interpret: whether the kernel is interpreted, on any device.

    Returns:
        The weighted sum of absolute differences, and the normalized tokens.
    """
    windows, tokens, dim = x.shape
    wide = padded(dim)
    tile = pl.BlockSpec((None, tokens, wide), lambda i: (i, 0, 0))
    return pl.pallas_call(
        functools.partial(_change, dim=dim),
        grid=(windows,),
        in_specs=[pl.BlockSpec((wide,), lambda i: (0,)), tile, tile],
        out_specs=[pl.BlockSpec((None, tokens, 1), lambda i: (i, 0, 0)), tile],
        out_shape=[
            jax.ShapeDtypeStruct((windows, tokens, 1), jnp.float32),
            jax.ShapeDtypeStruct(x.shape, x.dtype),
        ],
        input_output_aliases={2: 1},
        compiler_params=plgpu.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=interpret,
        name="token_change",
    )(jnp.pad(weight, (0, wide - dim)), x, last)


def _change(
    weight_ref: Any, x_ref: Any, last_ref: Any, out_ref: Any, normed_ref: Any, *, dim: int
) -> None:
    """Measures the tokens of a window: the body of the kernel."""
    tokens, last = (load(ref, 0, ref.shape[0], dim) for ref in (x_ref, last_ref))
    normed = normalize(tokens.astype(jnp.float32), dim).astype(x_ref.dtype)
    change = jnp.abs(normed - last).astype(jnp.float32)
    out_ref[...] = (change * weight_ref[...][None]).sum(1, keepdims=True)
    store(normed_ref, normed, dim)
