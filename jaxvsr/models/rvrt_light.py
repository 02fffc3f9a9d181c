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

from jaxvsr.layers.attention import attend
from jaxvsr.layers.blocks import MLP, dense
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
        # Queries are both frames of a pixel, keys its neighbors in both frames.
        q, k, v = q.transpose(0, 2, 3, 1, 4), self.gather_neighbors(k), self.gather_neighbors(v)
        out = attend(q, k, v, jnp.zeros((self.num_heads, 1, 1))).transpose(0, 3, 1, 2, 4)
        out = dense(out, self.dim, name="proj", dtype=self.dtype)
        return out + MLP(2.0, self.dtype, LightBlock.activation, name="mlp")(out), None

    def gather_neighbors(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b h w _ c"]:
        """Gathers the neighborhood of each pixel: (b, t, h, w, c) -> (b, h, w, kh*kw*t, c)."""
        kh, kw = self.window
        h, w = x.shape[2:4]
        edges = (kh // 2, kh // 2), (kw // 2, kw // 2)
        x = jnp.pad(x.transpose(0, 2, 3, 1, 4), ((0, 0), *edges, (0, 0), (0, 0)))
        shifted = [x[:, i : i + h, j : j + w] for i in range(kh) for j in range(kw)]
        return jnp.concatenate(shifted, axis=3)


class RVRTLight(ClipRecurrence):
    """RVRT-Light: the recurrence with neighborhood attention between clips."""

    block: ClassVar[type[SwinBlock]] = LightBlock

    def alignment(self) -> Callable[..., nn.Module]:
        """Makes the neighborhood attention."""
        return functools.partial(
            NeighborhoodAttention,
            dim=self.dim,
            num_heads=self.attention_heads,
            window=self.attention_window,
            dtype=self.dtype,
        )
