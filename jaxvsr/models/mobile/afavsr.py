"""AFAVSR, of FANI's work log: three frames in, large-kernel attention, no memory."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.models.mobile.base import Windowed
from jaxvsr.models.mobile.blocks import LargeAttention


class AFAVSR(Windowed):
    """The frames enter as they are.

    Attributes:
        num_blocks: of attention.
        attention_dim: channels inside of a block.
        tail_side: of the last convolution's kernel.
    """

    dim: int = 48
    num_blocks: int = 2
    attention_dim: int = 64
    tail_side: int = 3

    @nn.compact
    def restore(self, frames: Sequence[jax.Array], train: bool) -> jax.Array:
        """As `Windowed.restore`."""
        x = jnp.concatenate(frames, axis=-1)
        x = self.convs.separable(x, self.dim, name="shallow")
        for i in range(self.num_blocks):
            x = LargeAttention(self.convs, self.attention_dim, name=f"block_{i}")(x, train)
        return self.convs(x, 3 * self.scale**2, self.tail_side, name="tail")
