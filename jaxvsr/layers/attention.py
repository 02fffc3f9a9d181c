"""Window attention with a learned bias per relative position."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr.layers.blocks import linear_init


@functools.lru_cache(maxsize=32)
def relative_position_index(window_size: tuple[int, int, int]) -> np.ndarray:
    """Row of the bias table for each pair of tokens of a window.

    Args:
        window_size: (wt, wh, ww), n = wt*wh*ww.

    Returns:
        (n, n) int32 in [0, (2wt-1)(2wh-1)(2ww-1)): row the query, column the key.

    Source: Liu et al., "Video Swin Transformer", section 3.2.
    """
    grid = np.stack(np.meshgrid(*map(np.arange, window_size), indexing="ij"), -1).reshape(-1, 3)
    offset = grid[:, None] - grid[None, :] + np.array(window_size) - 1
    _, rows, columns = (2 * n - 1 for n in window_size)
    return (offset @ np.array([rows * columns, columns, 1])).astype(np.int32)


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array, allowed: jax.Array | None = None
) -> jax.Array:
    """Multi-head softmax attention inside windows; logits and softmax in float32.

    Args:
        q: (..., queries, c), not yet scaled.
        k, v: (..., keys, c).
        bias: (..., heads, queries or 1, keys or 1) float32, added to the logits.
        allowed: (..., queries, keys) bool or None: elsewhere 100 is taken off the logits.

    Returns:
        (..., queries, c) in the dtype of `v`.
    """
    heads = bias.shape[-3]
    q, k, v = (x.reshape(*x.shape[:-1], heads, -1) for x in (q, k, v))
    q = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    logits = jnp.einsum("...qhd,...khd->...hqk", q, k, preferred_element_type=jnp.float32) + bias
    if allowed is not None:
        logits = jnp.where(allowed[..., None, :, :], logits, logits - 100)
    # The softmax is divided by its sum where it is smallest: after the product with the values.
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    out = jnp.einsum(
        "...hqk,...khd->...qhd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
    )
    out = out / jnp.swapaxes(weights.sum(-1), -1, -2)[..., None]
    return out.reshape(*out.shape[:-2], -1).astype(v.dtype)


@functools.lru_cache(maxsize=32)
def sine_position(height: int, width: int, dim: int) -> np.ndarray:
    """A code of the place in a window: sines and cosines of y, then of x, from slow to fast.

    Args:
        height, width: of the window.
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


class WindowAttention(nn.Module):
    """Self-attention in windows of several frames and, if `mutual`, VRT's mutual attention beside
    it: windows then hold two frames, each of which is asked by the other one, too.

    Attributes:
        num_heads: number of heads.
        window_size: (wt, wh, ww); a window of fewer tokens takes the first ones' biases.
        dtype: of the computation; logits and softmax are float32.
        relative: whether there is a bias per relative position.
        mutual: whether mutual attention is joined to self-attention; of two frames only.
    """

    num_heads: int
    window_size: tuple[int, int, int]
    dtype: Any = jnp.float32
    relative: bool = True
    mutual: bool = False

    @nn.compact
    def __call__(self, tokens: jax.Array, regions: np.ndarray | None = None) -> jax.Array:
        """tokens (b, n, wt*wh*ww, c), regions (n, wt*wh*ww) or None -> (b, n, wt*wh*ww, c)."""
        count, dim = tokens.shape[-2:]
        bias = jnp.zeros((self.num_heads, 1, 1))
        if self.relative:
            rows = math.prod(2 * side - 1 for side in self.window_size)
            table = self.param(
                "relative_position_bias_table", linear_init, (rows, self.num_heads), jnp.float32
            )
            index = relative_position_index(self.window_size)[:count, :count]
            bias = table[index].transpose(2, 0, 1)
        allowed = None
        if regions is not None:
            allowed = jnp.asarray(regions)[:, :, None] == jnp.asarray(regions)[:, None, :]
        q, k, v = self.queries_keys_values(tokens, "qkv")
        out = attend(q, k, v, bias, allowed)
        if self.mutual:
            out = jnp.concatenate([self.mutual_attention(tokens, regions), out], axis=-1)
        return nn.Dense(dim, kernel_init=linear_init, dtype=self.dtype, name="proj")(out)

    def queries_keys_values(self, tokens: jax.Array, name: str) -> list[jax.Array]:
        """(..., c) -> three of (..., c)."""
        features = 3 * tokens.shape[-1]
        qkv = nn.Dense(features, kernel_init=linear_init, dtype=self.dtype, name=name)(tokens)
        return jnp.split(qkv, 3, axis=-1)

    def mutual_attention(self, tokens: jax.Array, regions: np.ndarray | None) -> jax.Array:
        """Each of two frames asked by the other: what is found stands where it was found.

        Args:
            tokens: (b, n, 2*wh*ww, c).
            regions: (n, 2*wh*ww) or None; those of the first frame hold for both, as published.

        Returns:
            (b, n, 2*wh*ww, c).

        Source: Liang et al., "VRT", section 3.2.
        """
        b, n, keys, dim = tokens.shape
        position = np.tile(sine_position(*self.window_size[1:], dim), (2, 1))
        q, k, v = self.queries_keys_values(tokens + position, "qkv_mut")
        allowed = None
        if regions is not None:
            first = jnp.asarray(regions)[:, : keys // 2]
            allowed = jnp.repeat(first[:, :, None] == first[:, None, :], 2, axis=0)
        q = q.reshape(b, n, 2, keys // 2, dim)[:, :, ::-1]
        q, k, v = (x.reshape(b, 2 * n, keys // 2, dim) for x in (q, k, v))
        return attend(q, k, v, jnp.zeros((self.num_heads, 1, 1)), allowed).reshape(tokens.shape)
