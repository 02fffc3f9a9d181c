"""The transformer block of PSRT, IIA-VSR and MIA-VSR, as functions of some windows' tokens.

Attention is by window and all the rest by token. So a block can be computed for some windows after
others, for the windows that need it alone, or for some of a window's tokens: the functions here
take any windows, and modules only own the parameters.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr.layers.attention import attend, relative_position_index
from jaxvsr.layers.blocks import gelu, linear_init, normalize

# The affine parts are small; rounded to bfloat16 by a TPU's default they would cost digits.
EXACT = jax.lax.Precision.HIGHEST


class Dense(NamedTuple):
    """A dense layer: kernel (in, out) and bias (out,)."""

    kernel: jax.Array
    bias: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., in) -> (..., out) in the dtype of `x`."""
        return x @ self.kernel.astype(x.dtype) + self.bias.astype(x.dtype)


class Norm(NamedTuple):
    """The affine part of a layer norm, each (c,)."""

    scale: jax.Array
    bias: jax.Array

    def then(self, dense: Dense) -> Dense:
        """A dense layer of normalised tokens that does what `dense` does after this part."""
        bias = jnp.dot(self.bias, dense.kernel, precision=EXACT)
        return Dense(self.scale[:, None] * dense.kernel, bias + dense.bias)


class BlockWeights(NamedTuple):
    """What a block computes with.

    Attributes:
        norm1: of the attention's tokens.
        qkv: to queries, keys and values (c, 3c).
        bias: (heads, queries, keys) of the logits.
        proj: (c, c) of what attention found.
        norm2, fc1, fc2: of the MLP.
    """

    norm1: Norm
    qkv: Dense
    bias: jax.Array
    proj: Dense
    norm2: Norm
    fc1: Dense
    fc2: Dense


class Windows(NamedTuple):
    """What a block has to know of w windows: of one clip or, one after the other, of several.

    Attributes:
        x: (w, queries, c) tokens that are refined.
        normed: (w, queries, c) the same normalised, without the affine part.
        others: (w, keys - queries, c) the other frames' tokens, likewise; or None.
        inside: (w, keys) bool, which tokens, the others first, are of the frame and not padding.
        regions: (w, keys) int32: only tokens of one region meet; or None.
        drop_attn, drop_mlp: (w, 1, 1) what stochastic depth multiplies the two ways by.
    """

    x: jax.Array
    normed: jax.Array
    others: jax.Array | None
    inside: jax.Array
    regions: jax.Array | None
    drop_attn: jax.Array
    drop_mlp: jax.Array


class NormWeights(nn.Module):
    """Owns the affine part of a layer norm over `dim` channels."""

    @nn.compact
    def __call__(self, dim: int) -> Norm:
        scale = self.param("scale", nn.initializers.ones_init(), (dim,), jnp.float32)
        return Norm(scale, self.param("bias", nn.initializers.zeros_init(), (dim,), jnp.float32))


class DenseWeights(nn.Module):
    """Owns a dense layer from `dim` channels to `features`."""

    features: int

    @nn.compact
    def __call__(self, dim: int) -> Dense:
        kernel = self.param("kernel", linear_init, (dim, self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return Dense(kernel, bias)


class AttentionWeights(nn.Module):
    """Owns window attention: the last `query_frames` of the frames of a window ask.

    All frames ask in PSRT. In IIA-VSR only the last one does, the current frame, and its bias is
    looked up as if it were the first: the published index.
    """

    num_heads: int
    window_size: tuple[int, int, int]
    query_frames: int

    @nn.compact
    def __call__(self, dim: int) -> tuple[Dense, jax.Array, Dense]:
        """`qkv`, `bias` and `proj` of BlockWeights."""
        wt, wh, ww = self.window_size
        rows = (wt + self.query_frames - 1) * (2 * wh - 1) * (2 * ww - 1)
        table = self.param(
            "relative_position_bias_table", linear_init, (rows, self.num_heads), jnp.float32
        )
        index = relative_position_index(self.window_size)[: self.query_frames * wh * ww]
        qkv = DenseWeights(3 * dim, name="qkv")(dim)
        return qkv, table[index].transpose(2, 0, 1), DenseWeights(dim, name="proj")(dim)


class MLPWeights(nn.Module):
    """Owns an MLP that is `ratio` times as wide inside."""

    ratio: float

    @nn.compact
    def __call__(self, dim: int) -> tuple[Dense, Dense]:
        """`fc1` and `fc2` of BlockWeights."""
        hidden = int(dim * self.ratio)
        return DenseWeights(hidden, name="fc1")(dim), DenseWeights(dim, name="fc2")(hidden)


@jax.named_scope("attn")
def attention(weights: BlockWeights, windows: Windows, rows: jax.Array | None = None) -> jax.Array:
    """What tokens find in their windows.

    Args:
        weights: of the block.
        windows: w of them.
        rows: (w, r) int32 numbers of the tokens that ask, of 0..queries-1; None: all.

    Returns:
        (w, r or queries, c), without stochastic depth.
    """
    dim, queries = windows.x.shape[-1], windows.x.shape[-2]
    kernel, inside = weights.norm1.then(weights.qkv)
    tokens = windows.normed
    if windows.others is not None:
        tokens = jnp.concatenate([windows.others, tokens], axis=1)
    # Padding comes after the norm: padded tokens are keys equal to the bias, as published.
    outside = weights.qkv.bias[dim:]
    offset = jnp.where(windows.inside[..., None], inside[dim:], outside).astype(tokens.dtype)
    with jax.named_scope("keys_values"):
        keys_values = tokens @ kernel[:, dim:].astype(tokens.dtype) + offset
    q = Dense(kernel[:, :dim], inside[:dim])(take_rows(windows.normed, rows))
    bias, allowed = weights.bias, None
    if rows is not None:
        bias = bias.transpose(1, 0, 2)[rows].swapaxes(1, 2)
    if windows.regions is not None:
        asking = take_rows(windows.regions[:, -queries:, None], rows)
        allowed = asking == windows.regions[:, None, :]
    k, v = jnp.split(keys_values, 2, axis=-1)
    return weights.proj(attend(q, k, v, bias, allowed))


@jax.named_scope("mlp")
def mlp(weights: BlockWeights, windows: Windows, attn: jax.Array, rows: Any = None) -> jax.Array:
    """What the MLP adds to tokens to which attention has added; arguments as `attention`'s.

    Returns:
        (w, r or queries, c), with stochastic depth.
    """
    x = take_rows(windows.x, rows) + windows.drop_attn * attn
    hidden = weights.norm2.then(weights.fc1)(normalize(x, attn.dtype))
    return windows.drop_mlp * weights.fc2(gelu(hidden))


def refine(
    weights: BlockWeights, windows: Windows, rows: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """`attention` and then `mlp`."""
    attn = attention(weights, windows, rows)
    return attn, mlp(weights, windows, attn, rows)


def take_rows(x: jax.Array, rows: jax.Array | None) -> jax.Array:
    """(w, tokens, c) -> (w, r, c): of each window the tokens with the numbers (w, r), or all."""
    return x if rows is None else jnp.take_along_axis(x, rows[..., None], axis=1)


def tiled(windows: np.ndarray, clips: int) -> jax.Array:
    """What holds for the windows (n, ...) of a clip, for those of several (clips*n, ...)."""
    return jnp.tile(windows, (clips,) + (1,) * (windows.ndim - 1))
