"""Base of the sliding-window recurrent networks of FANI's work log: SWAT, SORT and VSR.

As in SWRN, a step has two branches with a hidden state each. The networks differ in their blocks.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from jaxvsr.models.mobile.base import Recurrent
from jaxvsr.models.mobile.reparam import Convs


class SlidingCell(nn.Module):
    """One step: a branch each for the previous and the next frame, fusion, then a trunk.

    Attributes:
        dim: channels of the features.
        features: channels of the residual image.
        convs: factory of convolutions.
        shallow: first convolution of a branch, "separable" or "conv".
        block: makes a block of a branch from `name`.
        num_blocks: blocks of each branch.
        trunk_block: makes a block of the trunk from `name`.
        trunk_blocks: blocks of the trunk.
        hidden: how the features of a branch become its hidden state: "conv" a convolution without
            a bias, "biased" with a bias, "block" one more block, "none" unchanged.
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
        self,
        hidden: Float[Array, "b h w hidden"],
        step: Int32[Array, ""],
        frames: Sequence[Float[Array, "b h w 3"]],
        train: bool,
    ) -> tuple[Float[Array, "b h w hidden"], Float[Array, "b h w _"]]:
        """One step of the recurrence; see `Recurrent.make_cell`."""
        previous, current, following = frames
        hidden_forward, hidden_backward = jnp.split(hidden, 2, axis=-1)

        def branch(neighbor: Array, hidden: Array, name: str):
            x = jnp.concatenate([neighbor, current, hidden], axis=-1)
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

    def _remembered(self, x: Array, name: str, train: bool) -> Array:
        match self.hidden:
            case "none":
                return x
            case "block":
                return self.block(name=f"hidden_{name}")(x, train)
        return self.convs(x, self.dim, bias=self.hidden == "biased", name=f"hidden_{name}")


class Sliding(Recurrent):
    """Base class of SWAT, SORT and VSR.

    Attributes:
        shallow, hidden: as in `SlidingCell`.
        num_blocks: blocks of each branch.
        trunk_blocks: blocks after the fusion of the branches.
        shared_residual: whether one residual map is added to R, G and B.
    """

    shallow: Literal["separable", "conv"] = "separable"
    hidden: Literal["conv", "biased", "block", "none"] = "conv"
    num_blocks: int = 1
    trunk_blocks: int = 1
    shared_residual: bool = False

    def block(self, trunk: bool) -> Callable[..., nn.Module]:
        """Returns a function of `name` that makes a block of a branch or of the trunk."""
        raise NotImplementedError

    def make_cell(self) -> nn.Module:
        """Makes the cell."""
        return SlidingCell(
            dim=self.dim,
            features=(1 if self.shared_residual else 3) * self.scale**2,
            convs=self.convs,
            shallow=self.shallow,
            block=self.block(trunk=False),
            num_blocks=self.num_blocks,
            trunk_block=self.block(trunk=True),
            trunk_blocks=self.trunk_blocks,
            hidden=self.hidden,
        )
