"""AFAVSR: large-kernel attention on three frames, without recurrence; from FANI's work log."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvsr.models.mobile.base import Windowed
from jaxvsr.models.mobile.blocks import LargeAttention


class AFAVSR(Windowed):
    """Concatenated frames and large-kernel attention blocks.

    Attributes:
        num_blocks: number of attention blocks.
        attention_dim: channels inside a block.
        tail_side: kernel size of the last convolution.
    """

    dim: int = 48
    num_blocks: int = 2
    attention_dim: int = 64
    tail_side: int = 3

    @nn.compact
    def residual(
        self, frames: Sequence[Float[Array, "b *t h w 3"]], train: bool
    ) -> Float[Array, "b *t h w _"]:
        """Predicts the residual image; see `Windowed.residual`."""
        x = jnp.concatenate(frames, axis=-1)
        x = self.convs.separable(x, self.dim, name="shallow")
        for i in range(self.num_blocks):
            x = LargeAttention(self.convs, self.attention_dim, name=f"block_{i}")(x, train)
        return self.convs(x, 3 * self.scale**2, self.tail_side, name="tail")
