"""Window attention with a learned bias per relative position."""

import functools
import math
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int32

from jaxvsr.layers import cudnn
from jaxvsr.layers.blocks import Dense, DenseWeights, linear_init


@functools.lru_cache(maxsize=32)
def relative_position_index(window_size: tuple[int, int, int]) -> Int32[np.ndarray, "n n"]:
    """Index into the bias table for each pair of tokens in a window.

    Args:
        window_size: (wt, wh, ww), n = wt*wh*ww.

    Returns:
        (n, n) int32 in [0, (2wt-1)(2wh-1)(2ww-1)); rows are queries, columns are keys.

    Source: Liu et al., "Video Swin Transformer", section 3.2.
    """
    grid = np.stack(np.meshgrid(*map(np.arange, window_size), indexing="ij"), -1).reshape(-1, 3)
    offset = grid[:, None] - grid[None, :] + np.array(window_size) - 1
    _, rows, columns = (2 * n - 1 for n in window_size)
    return (offset @ np.array([rows * columns, columns, 1])).astype(np.int32)


def attend(
    q: Float[Array, "*n queries c"],
    k: Float[Array, "*n keys c"],
    v: Float[Array, "*n keys c"],
    bias: Float32[Array, "... heads #queries #keys"],
    allowed: Bool[Array, "... queries keys"] | None = None,
) -> Float[Array, "*n queries c"]:
    """Multi-head softmax attention inside windows, with logits and softmax in float32.

    Args:
        q: (..., queries, c), before scaling.
        k, v: (..., keys, c).
        bias: (..., heads, queries or 1, keys or 1) float32, added to the logits.
        allowed: (..., queries, keys) bool or None; 100 is subtracted from all other logits.

    Returns:
        (..., queries, c) in the dtype of `v`.
    """
    heads = bias.shape[-3]
    q, k, v = (x.reshape(*x.shape[:-1], heads, -1) for x in (q, k, v))
    q = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    logits = jnp.einsum("...qhd,...khd->...hqk", q, k, preferred_element_type=jnp.float32) + bias
    if allowed is not None:
        logits = jnp.where(allowed[..., None, :, :], logits, logits - 100)
    # Dividing by the softmax's sum is cheapest after the product with the values.
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    out = jnp.einsum(
        "...hqk,...khd->...qhd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
    )
    out = out / jnp.swapaxes(weights.sum(-1), -1, -2)[..., None]
    return out.reshape(*out.shape[:-2], -1).astype(v.dtype)


@functools.lru_cache(maxsize=32)
def sine_position(
    height: int, width: int, dim: int
) -> Float32[np.ndarray, "{height}*{width} {dim}"]:
    """Sinusoidal position encoding of a window: y, then x, from low to high frequency.

    Args:
        height, width: window size.
        dim: channels, a multiple of 4.

    Returns:
        (height*width, dim) float32.

    Source: Carion et al., "End-to-End Object Detection with Transformers" (DETR), appendix A.4.
    """
    period = 1e4 ** (2 * np.arange(dim // 4) / (dim // 2))
    code = np.zeros((height, width, 2, dim // 4, 2))
    places = np.meshgrid(np.arange(1, height + 1), np.arange(1, width + 1), indexing="ij")
    for axis, (place, side) in enumerate(zip(places, (height, width), strict=True)):
        angle = (2 * np.pi * place / (side + 1e-6))[..., None] / period
        code[:, :, axis] = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    return code.reshape(height * width, dim).astype(np.float32)


class WindowWeights(NamedTuple):
    """Weights of attention in windows.

    Attributes:
        qkv: to queries, keys and values.
        bias: added to the logits, (heads, tokens or 1, tokens or 1).
        proj: of the output.
        qkv_mut: of mutual attention, or None.
    """

    qkv: Dense
    bias: Float32[Array, "heads _ _"]
    proj: Dense
    qkv_mut: Dense | None


class WindowAttention(nn.Module):
    """Self-attention in windows of several frames, optionally with VRT's mutual attention.

    With mutual attention, windows hold two frames, and each frame also attends to the other one.

    Attributes:
        num_heads: attention heads.
        window_size: (wt, wh, ww); a smaller window uses the biases of the first tokens.
        dtype: of the computation; logits and softmax are float32.
        relative: whether there is a bias per relative position.
        mutual: whether mutual attention is concatenated to self-attention.
    """

    num_heads: int
    window_size: tuple[int, int, int]
    dtype: Any = jnp.float32
    relative: bool = True
    mutual: bool = False

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "b n tokens c"],
        regions: Int32[Array | np.ndarray, "n tokens"] | None = None,
    ) -> Float[Array, "b n tokens c"]:
        """Applies attention in each window.

        Args:
            tokens: (b, n, wt*wh*ww, c).
            regions: (n, wt*wh*ww) from `windows.shift_regions`: tokens attend only within their
                region. None: to all tokens of their window.

        Returns:
            (b, n, wt*wh*ww, c).
        """
        count, dim = tokens.shape[-2:]
        bias = jnp.zeros((self.num_heads, 1, 1))
        if self.relative:
            rows = math.prod(2 * side - 1 for side in self.window_size)
            table = self.param(
                "relative_position_bias_table", linear_init, (rows, self.num_heads), jnp.float32
            )
            index = relative_position_index(self.window_size)[:count, :count]
            bias = table[index].transpose(2, 0, 1)
        weights = WindowWeights(
            DenseWeights(3 * dim, name="qkv")(dim),
            bias,
            DenseWeights(dim, name="proj")((1 + self.mutual) * dim),
            DenseWeights(3 * dim, name="qkv_mut")(dim) if self.mutual else None,
        )
        tokens = tokens.astype(self.dtype)
        position = np.tile(sine_position(*self.window_size[1:], dim), (2, 1))
        placed = (tokens + position).astype(self.dtype) if self.mutual else None
        plain = functools.partial(attend_in_windows, regions=regions)
        if not cudnn.takes(
            self.dtype, math.prod(tokens.shape[:2]), count, count, dim // self.num_heads
        ):
            return plain(weights, tokens, placed)
        by_cudnn = functools.partial(attend_by_cudnn, regions=regions)
        return jax.lax.platform_dependent(weights, tokens, placed, cuda=by_cudnn, default=plain)


def attend_in_windows(
    weights: WindowWeights,
    tokens: Float[Array, "b n tokens c"],
    placed: Float[Array, "b n tokens c"] | None,
    *,
    regions: Int32[Array | np.ndarray, "n tokens"] | None,
) -> Float[Array, "b n tokens c"]:
    """Self-attention and mutual attention.

    In mutual attention the queries of each frame attend to the keys of the other frame. The result
    is stored at the position of the keys' frame.

    Args:
        weights: of the attention.
        tokens: of the windows.
        placed: tokens with a position encoding, for mutual attention of two frames; or None.
        regions: as for `WindowAttention`. In mutual attention both frames use the first frame's, as
            in the official code.

    Source: Liang et al., "VRT", section 3.2.
    """
    allowed = None
    if regions is not None:
        allowed = jnp.asarray(regions)[:, :, None] == jnp.asarray(regions)[:, None, :]
    q, k, v = jnp.split(weights.qkv(tokens), 3, axis=-1)
    out = attend(q, k, v, weights.bias, allowed)
    if placed is not None and weights.qkv_mut is not None:
        b, n, count, dim = placed.shape
        q, k, v = jnp.split(weights.qkv_mut(placed), 3, axis=-1)
        if regions is not None:
            first = jnp.asarray(regions)[:, : count // 2]
            allowed = jnp.repeat(first[:, :, None] == first[:, None, :], 2, axis=0)
        q = q.reshape(b, n, 2, count // 2, dim)[:, :, ::-1]
        q, k, v = (x.reshape(b, 2 * n, count // 2, dim) for x in (q, k, v))
        mutual = attend(q, k, v, jnp.zeros_like(weights.bias[:, :1, :1]), allowed)
        out = jnp.concatenate([mutual.reshape(tokens.shape), out], axis=-1)
    return weights.proj(out)


def attend_by_cudnn(
    weights: WindowWeights,
    tokens: Float[Array, "b n tokens c"],
    placed: Float[Array, "b n tokens c"] | None,
    *,
    regions: Int32[Array | np.ndarray, "n tokens"] | None,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Float[Array, "b n tokens c"]:
    """As `attend_in_windows`, by `cudnn.attention`."""
    (b, n, count, dim), (kernel, bias) = tokens.shape, weights.proj
    flat = tokens.reshape(b * n, count, dim)
    labels = None if regions is None else jnp.tile(jnp.asarray(regions), (b, 1))
    attention = functools.partial(cudnn.attention, implementation=implementation)
    both = None if labels is None else (labels, labels)
    out = attention(flat, flat, weights.qkv, weights.bias, kernel[-dim:], regions=both)
    if placed is not None and weights.qkv_mut is not None:
        frames = placed.reshape(b * n, 2, count // 2, dim)
        queries, keys = (x.reshape(-1, count // 2, dim) for x in (frames[:, ::-1], frames))
        none = jnp.zeros_like(weights.bias[:, :1, :1])
        if labels is not None:
            labels = jnp.repeat(labels[:, : count // 2], 2, axis=0)
            both = labels, labels
        mutual = attention(queries, keys, weights.qkv_mut, none, kernel[:dim], regions=both)
        out = mutual.reshape(out.shape) + out
    return (out + bias.astype(out.dtype)).reshape(tokens.shape)
