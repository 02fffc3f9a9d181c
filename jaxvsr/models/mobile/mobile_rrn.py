"""MobileRRN, the baseline of the Mobile AI 2022 challenge: a recurrent network without look-ahead.

Source: Ignatov et al., "Power Efficient Video Super-Resolution on Mobile NPUs", section 3.3.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.models.mobile.base import Recurrent
from jaxvsr.models.mobile.reparam import Convs


class MobileRRNCell(nn.Module):
    """One frame: it meets the frame before it and the hidden state in a chain of residual blocks.

    Attributes:
        dim: channels.
        num_blocks: residual blocks.
        scale: upsampling factor.
        convs: how convolutions are made.
    """

    dim: int
    num_blocks: int
    scale: int
    convs: Convs

    @nn.compact
    def __call__(
        self, hidden: jax.Array, step: jax.Array, frames: jax.Array, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """As `Recurrent.make_cell`."""
        previous, current = frames[:, 0], frames[:, 1]
        x = jnp.concatenate([previous, current, hidden], axis=-1)
        x = nn.relu(self.convs(x, self.dim, name="conv_first"))
        for i in range(self.num_blocks):
            y = nn.relu(self.convs(x, self.dim, name=f"block_{i}_conv1"))
            x = x + self.convs(y, self.dim, name=f"block_{i}_conv2")
        hidden = nn.relu(self.convs(x, self.dim, name="conv_hidden"))
        return hidden, self.convs(x, 3 * self.scale**2, name="conv_last")


class MobileRRN(Recurrent):
    """Recurrent over the clip; a frame is restored as soon as it is there.

    Attributes:
        num_blocks: residual blocks.
    """

    num_blocks: int = 5

    lookahead: ClassVar[int] = 0
    clip: ClassVar[bool] = False
    hidden_ratio: ClassVar[int] = 1

    def make_cell(self) -> nn.Module:
        """As `Recurrent.make_cell`."""
        return MobileRRNCell(self.dim, self.num_blocks, self.scale, self.convs)
