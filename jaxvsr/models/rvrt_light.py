"""RVRT-Light: RVRT with attention to a fixed neighborhood instead of flow-guided attention.

Source: MindSpore Lab, mindediting, "rvrt_light"; no paper describes it. The recurrence is RVRT's
(rvrt.py).
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvsr.distributed import spatial_sharding
from jaxvsr.kernels import deform_attention_gpu, triton
from jaxvsr.layers.attention import attend
from jaxvsr.layers.blocks import MLP, dense
from jaxvsr.layers.window_chunks import map_chunks
from jaxvsr.models.rvrt import ClipRecurrence, SwinBlock


class LightBlock(SwinBlock):
    """RVRT's block without a relative position bias, with MindSpore's epsilon and GELU."""

    epsilon: ClassVar[float] = 1e-7
    relative: ClassVar[bool] = False

    @staticmethod
    def activation(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """GELU in its tanh form."""
        return nn.gelu(x, approximate=True)


class NeighborhoodAttention(nn.Module):
    """Attention of each position to its neighborhood in both frames of the previous clip.

    Attributes:
        dim: channels of the features.
        num_heads: attention heads.
        window: (kh, kw) of the neighborhood; zero outside the frame.
        dtype: of the computation.
    """

    dim: int
    num_heads: int
    window: tuple[int, int]
    dtype: Any

    @nn.compact
    def __call__(
        self,
        q: Float[Array, "b 2 h w {self.dim}"],
        k: Float[Array, "b 2 h w {self.dim}"],
        v: Float[Array, "b 2 h w {self.dim}"],
        flows: None = None,
    ) -> tuple[Float[Array, "b 2 h w {self.dim}"], None]:
        """Aligns the previous clip: as GuidedDeformAttention, but without flows."""
        project = functools.partial(dense, features=2 * self.dim, dtype=self.dtype)
        q, k, v = project(q, name="proj_q"), project(k, name="proj_k"), project(v, name="proj_v")
        q = q.reshape(*q.shape[:-1], self.num_heads, -1)
        attend_in_frames: Callable[..., Any] = self.attend
        if deform_attention_gpu.serves(q, k, v):
            kernel = functools.partial(deform_attention_gpu.attend, window=self.window)
            attend_in_frames = triton.on_cuda(kernel, self.attend)
        out = attend_in_frames(q, k, v)
        out = dense(out, self.dim, name="proj", dtype=self.dtype)
        return out + MLP(2.0, self.dtype, LightBlock.activation, name="mlp")(out), None

    def attend(
        self,
        q: Float[Array, "b 2 h w heads _"],
        k: Float[Array, "b 2 h w c"],
        v: Float[Array, "b 2 h w c"],
    ) -> Float[Array, "b 2 h w c"]:
        """Attends to the neighborhoods, with the arguments of `deform_attention_gpu.attend`."""
        height = q.shape[2]
        even = spatial_sharding.aligned(height, 1)
        q, k, v = (spatial_sharding.take(x, even) for x in (q.reshape(k.shape), k, v))
        queries = q.swapaxes(1, 2)
        rows = queries.reshape(-1, *queries.shape[2:]), self.rows(k), self.rows(v)
        bias = jnp.zeros((self.num_heads, 1, 1))
        out = map_chunks(attend_neighbors, bias, rows, clips=q.shape[0])
        return spatial_sharding.first(out.reshape(queries.shape).swapaxes(1, 2), height)

    def rows(self, x: Float[Array, "b t h w c"]) -> Float[Array, "n kh t w_padded c"]:
        """Rows above and below each row: (b, t, h, w, c) -> (b*h, kh, t, w + kw - 1, c)."""
        kh, kw = self.window
        h = x.shape[2]
        edges = (kh // 2, kh // 2), (kw // 2, kw // 2)
        x = jnp.pad(x, ((0, 0), (0, 0), *edges, (0, 0)))
        x = jnp.stack([x[:, :, i : i + h] for i in range(kh)], axis=2)
        return x.transpose(0, 3, 2, 1, 4, 5).reshape(-1, kh, x.shape[1], *x.shape[4:])


def attend_neighbors(
    bias: Float[Array, "heads 1 1"],
    rows: tuple[
        Float[Array, "n t w c"],
        Float[Array, "n kh t w_padded c"],
        Float[Array, "n kh t w_padded c"],
    ],
) -> Float[Array, "n t w c"]:
    """Attention of both frames of each pixel to its neighbors in both frames.

    Args:
        bias: of the logits.
        rows: queries, and keys and values of `NeighborhoodAttention.rows`.
    """
    q, k, v = rows
    k, v = (columns(x, q.shape[2]) for x in (k, v))
    return attend(q.swapaxes(1, 2), k, v, bias).swapaxes(1, 2)


def columns(
    x: Float[Array, "n kh t w_padded c"], width: int
) -> Float[Array, "n {width} neighbors c"]:
    """The neighbors of each pixel of a row, in the columns to the left and right of it."""
    shifted = [x[:, :, :, j : j + width] for j in range(x.shape[3] - width + 1)]
    neighbors = jnp.stack(shifted, axis=1).transpose(0, 4, 1, 2, 3, 5)
    return neighbors.reshape(x.shape[0], width, -1, x.shape[-1])


class RVRTLight(ClipRecurrence):
    """RVRT-Light: the recurrence with neighborhood attention between clips."""

    block: ClassVar[type[SwinBlock]] = LightBlock

    def alignment(self, train: bool) -> Callable[..., nn.Module]:
        """Makes the neighborhood attention."""
        return functools.partial(
            NeighborhoodAttention,
            dim=self.dim,
            num_heads=self.attention_heads,
            window=self.attention_window,
            dtype=self.dtype,
        )
