"""MobileRRN, the baseline of the Mobile AI 2022 challenge: a recurrent network without lookahead.

Source: Ignatov et al., "Power Efficient Video Super-Resolution on Mobile NPUs", section 3.3.
"""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from jaxvsr.models.mobile.base import Recurrent
from jaxvsr.models.mobile.reparam import Convs


class MobileRRNCell(nn.Module):
    """One step: residual blocks on the previous frame, the current frame and the hidden state.

    Attributes:
        dim: channels of the features.
        num_blocks: residual blocks.
        scale: upsampling factor.
        convs: factory of convolutions.
    """

    dim: int
    num_blocks: int
    scale: int
    convs: Convs

    @nn.compact
    def __call__(
        self,
        hidden: Float[Array, "b h w hidden"],
        step: Int32[Array, ""],
        frames: Sequence[Float[Array, "b h w 3"]],
        train: bool,
    ) -> tuple[Float[Array, "b h w hidden"], Float[Array, "b h w _"]]:
        """One step of the recurrence; see `Recurrent.make_cell`."""
        previous, current = frames
        x = jnp.concatenate([previous, current, hidden], axis=-1)
        x = nn.relu(self.convs(x, self.dim, name="conv_first"))
        for i in range(self.num_blocks):
            y = nn.relu(self.convs(x, self.dim, inner=True, name=f"block_{i}_conv1"))
            x = x + self.convs(y, self.dim, name=f"block_{i}_conv2")
        hidden = nn.relu(self.convs(x, self.dim, name="conv_hidden"))
        return hidden, self.convs(x, 3 * self.scale**2, name="conv_last")


class MobileRRN(Recurrent):
    """MobileRRN: a causal recurrence over frames.

    Attributes:
        num_blocks: residual blocks.
    """

    num_blocks: int = 5

    lookahead: ClassVar[int] = 0
    clip: ClassVar[bool] = False
    hidden_ratio: ClassVar[int] = 1

    def make_cell(self) -> nn.Module:
        """Makes the cell."""
        return MobileRRNCell(
            dim=self.dim, num_blocks=self.num_blocks, scale=self.scale, convs=self.convs
        )
