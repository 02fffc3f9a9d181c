"""RVRT-Light: RVRT without flows and offsets, which a clip's neighbourhood stands in for.

Source: MindSpore Lab, mindediting, "rvrt_light"; there is no paper of it. The recurrence is RVRT's
(rvrt.py).
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.layers.attention import attend
from jaxvsr.layers.blocks import MLP, dense
from jaxvsr.models.rvrt import ClipRecurrence, SwinBlock


class LightBlock(SwinBlock):
    """RVRT's block without a bias of positions, in MindSpore's conventions."""

    epsilon: ClassVar[float] = 1e-7
    relative: ClassVar[bool] = False

    @staticmethod
    def activation(x: jax.Array) -> jax.Array:
        """GELU in its tanh form."""
        return nn.gelu(x, approximate=True)


class NeighbourhoodAttention(nn.Module):
    """Looks for a clip in the clip met before, around the same place in both of its frames.

    Attributes:
        dim: channels of the features.
        num_heads: attention heads.
        window: (kh, kw) of what is looked at; zero outside of the frame.
        dtype: of the computation.
    """

    dim: int
    num_heads: int
    window: tuple[int, int]
    dtype: Any

    @nn.compact
    def __call__(
        self, q: jax.Array, k: jax.Array, v: jax.Array, flows: None = None
    ) -> tuple[jax.Array, None]:
        """Aligns: as GuidedDeformAttention, but without flows."""
        project = functools.partial(dense, features=2 * self.dim, dtype=self.dtype)
        q, k, v = project(q, name="proj_q"), project(k, name="proj_k"), project(v, name="proj_v")
        # Each pixel's frames ask, and the neighbours in both frames answer.
        q, k, v = q.transpose(0, 2, 3, 1, 4), self.neighbours(k), self.neighbours(v)
        out = attend(q, k, v, jnp.zeros((self.num_heads, 1, 1))).transpose(0, 3, 1, 2, 4)
        out = dense(out, self.dim, name="proj", dtype=self.dtype)
        return out + MLP(2.0, self.dtype, LightBlock.activation, name="mlp")(out), None

    def neighbours(self, x: jax.Array) -> jax.Array:
        """(b, t, h, w, c) -> (b, h, w, kh*kw*t, c)."""
        kh, kw = self.window
        h, w = x.shape[2:4]
        edges = (kh // 2, kh // 2), (kw // 2, kw // 2)
        x = jnp.pad(x.transpose(0, 2, 3, 1, 4), ((0, 0), *edges, (0, 0), (0, 0)))
        shifted = [x[:, i : i + h, j : j + w] for i in range(kh) for j in range(kw)]
        return jnp.concatenate(shifted, axis=3)


class RVRTLight(ClipRecurrence):
    """The branches with attention to the neighbourhood between their clips."""

    block: ClassVar[type[SwinBlock]] = LightBlock

    def alignment(self) -> Callable[..., nn.Module]:
        return functools.partial(
            NeighbourhoodAttention,
            self.dim,
            self.attention_heads,
            self.attention_window,
            self.dtype,
        )
