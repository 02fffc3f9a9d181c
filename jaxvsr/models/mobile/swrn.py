"""SWRN, the sliding-window recurrent network for phones.

Source: Lian and Lian, "Sliding Window Recurrent Network for Efficient Video Super-Resolution",
AIM workshop at ECCV 2022.
"""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from jaxvsr.models.mobile.base import Recurrent
from jaxvsr.models.mobile.reparam import Convs


class SWRNCell(nn.Module):
    """One step: a branch each for the previous and the next frame, then fusion.

    Attributes:
        dim: channels of the features.
        num_blocks: convolutions of each of the three trunks.
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
        previous, current, following = frames
        convs = self.convs

        def trunk(x: Array, name: str) -> Array:
            for i in range(self.num_blocks):
                init = nn.initializers.glorot_normal()
                x = nn.relu(convs(x, self.dim, inner=True, init=init, name=f"trunk_{name}_{i}"))
            return x

        def branch(neighbor: Array, hidden: Array, name: str):
            x = jnp.concatenate([neighbor, current, hidden], axis=-1)
            x = nn.relu(convs(x, self.dim, inner=True, name=f"conv_first_{name}"))
            x = trunk(x, name)
            return x, convs(x, self.dim, name=f"conv_hidden_{name}")

        hidden_forward, hidden_backward = jnp.split(hidden, 2, axis=-1)
        x_forward, hidden_forward = branch(previous, hidden_forward, "forward")
        x_backward, hidden_backward = branch(following, hidden_backward, "backward")
        x = jnp.concatenate([x_forward, x_backward], axis=-1)
        x = nn.relu(convs(x, self.dim, inner=True, name="conv_fusion"))
        x = trunk(x, "fusion")
        x = convs(x, 3 * self.scale**2, name="conv_last")
        return jnp.concatenate([hidden_forward, hidden_backward], axis=-1), x


class SWRN(Recurrent):
    """SWRN: a recurrence over frames with a sliding window of three.

    Attributes:
        num_blocks: convolutions of each trunk.
    """

    num_blocks: int = 3

    clip: ClassVar[bool] = False

    def make_cell(self) -> nn.Module:
        """Makes the cell."""
        return SWRNCell(
            dim=self.dim, num_blocks=self.num_blocks, scale=self.scale, convs=self.convs
        )
