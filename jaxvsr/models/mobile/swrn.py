"""SWRN, the sliding-window recurrent network for phones.

Source: Lian and Lian, "Sliding Window Recurrent Network for Efficient Video Super-Resolution",
AIM workshop at ECCV 2022.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.models.mobile.base import Recurrent
from jaxvsr.models.mobile.reparam import Convs


class SWRNCell(nn.Module):
    """One frame: the frames before and after it meet it in two branches, then all three fuse.

    Attributes:
        dim: channels.
        num_blocks: convolutions of each of the three trunks.
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
        previous, current, following = (frames[:, i] for i in range(3))
        convs = self.convs

        def trunk(x: jax.Array, name: str) -> jax.Array:
            for i in range(self.num_blocks):
                init = nn.initializers.glorot_normal()
                x = nn.relu(convs(x, self.dim, init=init, name=f"trunk_{name}_{i}"))
            return x

        def branch(neighbour: jax.Array, hidden: jax.Array, name: str):
            x = jnp.concatenate([neighbour, current, hidden], axis=-1)
            x = nn.relu(convs(x, self.dim, name=f"conv_first_{name}"))
            x = trunk(x, name)
            return x, convs(x, self.dim, name=f"conv_hidden_{name}")

        hidden_forward, hidden_backward = jnp.split(hidden, 2, axis=-1)
        x_forward, hidden_forward = branch(previous, hidden_forward, "forward")
        x_backward, hidden_backward = branch(following, hidden_backward, "backward")
        x = jnp.concatenate([x_forward, x_backward], axis=-1)
        x = nn.relu(convs(x, self.dim, name="conv_fusion"))
        x = trunk(x, "fusion")
        x = convs(x, 3 * self.scale**2, name="conv_last")
        return jnp.concatenate([hidden_forward, hidden_backward], axis=-1), x


class SWRN(Recurrent):
    """Recurrent over the clip, with one frame of look-ahead; the ends repeat their frame.

    Attributes:
        num_blocks: convolutions of each trunk.
    """

    num_blocks: int = 3

    clip: ClassVar[bool] = False

    def make_cell(self) -> nn.Module:
        """As `Recurrent.make_cell`."""
        return SWRNCell(self.dim, self.num_blocks, self.scale, self.convs)
