"""The sliding-window recurrent families of FANI's work log: SWAT, SORT and VSR.

One frame, two branches and a hidden state each, as SWRN's; what differs is the block.
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.models.mobile.base import Recurrent
from jaxvsr.models.mobile.reparam import Convs


class SlidingCell(nn.Module):
    """One frame: the frames before and after it meet it in two branches, then all three fuse.

    Attributes:
        dim: channels.
        features: of the residual image.
        convs: how convolutions are made.
        shallow: what a branch begins with, "separable" or "conv".
        block: makes a block of the branches, of a name.
        num_blocks: blocks of each branch.
        trunk_block: makes a block of the trunk that follows on the branches, of a name.
        trunk_blocks: blocks of the trunk.
        hidden: how a branch becomes its hidden state: "conv" without or "biased" with a bias,
            "block" through one more block, "none" as it is.
    """

    dim: int
    features: int
    convs: Convs
    shallow: Literal["separable", "conv"]
    block: Callable[..., nn.Module]
    num_blocks: int
    trunk_block: Callable[..., nn.Module]
    trunk_blocks: int
    hidden: Literal["conv", "biased", "block", "none"]

    @nn.compact
    def __call__(
        self, hidden: jax.Array, step: jax.Array, frames: jax.Array, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """As `Recurrent.make_cell`."""
        previous, current, following = (frames[:, i] for i in range(3))
        hidden_forward, hidden_backward = jnp.split(hidden, 2, axis=-1)

        def branch(neighbour: jax.Array, hidden: jax.Array, name: str):
            x = jnp.concatenate([neighbour, current, hidden], axis=-1)
            if self.shallow == "separable":
                x = self.convs.separable(x, self.dim, name=f"shallow_{name}")
            else:
                x = self.convs(x, self.dim, name=f"shallow_{name}")
            for i in range(self.num_blocks):
                x = self.block(name=f"block_{name}_{i}")(x, train)
            return x, self._remembered(x, name, train)

        x_forward, hidden_forward = branch(previous, hidden_forward, "forward")
        x_backward, hidden_backward = branch(following, hidden_backward, "backward")
        x = jnp.concatenate([x_forward, x_backward], axis=-1)
        x = nn.relu(self.convs(x, self.dim, bias=False, name="fusion"))
        for i in range(self.trunk_blocks):
            x = self.trunk_block(name=f"trunk_{i}")(x, train)
        x = self.convs(x, self.features, bias=False, name="tail")
        return jnp.concatenate([hidden_forward, hidden_backward], axis=-1), x

    def _remembered(self, x: jax.Array, name: str, train: bool) -> jax.Array:
        match self.hidden:
            case "none":
                return x
            case "block":
                return self.block(name=f"hidden_{name}")(x, train)
        return self.convs(x, self.dim, bias=self.hidden == "biased", name=f"hidden_{name}")


class Sliding(Recurrent):
    """What the families share; the ends of a clip repeat their frame.

    Attributes:
        shallow, hidden: as `SlidingCell`'s.
        num_blocks: blocks of each branch.
        trunk_blocks: blocks after the branches have met.
        shared_residual: whether R, G and B share one residual map.
    """

    shallow: Literal["separable", "conv"] = "separable"
    hidden: Literal["conv", "biased", "block", "none"] = "conv"
    num_blocks: int = 1
    trunk_blocks: int = 1
    shared_residual: bool = False

    def block(self, trunk: bool) -> Callable[..., nn.Module]:
        """Makes a block of a branch or of the trunk, of a name."""
        raise NotImplementedError

    def make_cell(self) -> nn.Module:
        """As `Recurrent.make_cell`."""
        return SlidingCell(
            self.dim,
            (1 if self.shared_residual else 3) * self.scale**2,
            self.convs,
            self.shallow,
            self.block(trunk=False),
            self.num_blocks,
            self.block(trunk=True),
            self.trunk_blocks,
            self.hidden,
        )
