"""The sliding-window recurrent families of FANI's work log: SWAT, SORT and VSR.

One frame, two branches and a hidden state each, as SWRN's; what differs is the block.
"""

import functools
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.models.mobile import blocks
from jaxvsr.models.mobile.blocks import Kernels
from jaxvsr.models.mobile.convolution import Convs
from jaxvsr.models.mobile.frames import Recurrent


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


class SWAT(Sliding):
    """Blocks of large-kernel attention, of partial convolutions.

    Attributes:
        attention_dim: channels inside of a branch's block; inside of the trunk's there are `dim`.
        pointwise, mix, mix_ratio, kernels, ratio, depthwise: as of `blocks.LargeAttention`.
    """

    shared_residual: bool = True
    trunk_blocks: int = 0
    attention_dim: int = 32
    pointwise: Literal["partial", "conv", "biased"] = "partial"
    mix: Literal["none", "once", "twice", "dense"] = "none"
    mix_ratio: int = 1
    kernels: Kernels = ((3, 1), (3, 2))
    ratio: float = 0.25
    depthwise: bool = False

    def block(self, trunk: bool) -> Callable[..., nn.Module]:
        """As `Sliding.block`."""
        return functools.partial(
            blocks.LargeAttention,
            self.convs,
            self.dim if trunk else self.attention_dim,
            self.pointwise,
            self.mix,
            self.mix_ratio,
            self.kernels,
            self.ratio,
            self.depthwise,
        )


class SORT(Sliding):
    """Blocks of information distillation.

    Attributes:
        widths, kept, contrast: as of `blocks.InformationDistillation`.
    """

    widths: tuple[int, int, int] = (24, 16, 8)
    kept: int = 8
    contrast: bool = False

    def block(self, trunk: bool) -> Callable[..., nn.Module]:
        """As `Sliding.block`."""
        return functools.partial(
            blocks.InformationDistillation, self.convs, self.widths, self.kept, self.contrast
        )


class VSR(Sliding):
    """Blocks of partial features, those of MVSR_1.

    Attributes:
        stage_dim: channels that a stage of a block convolves, each alone.
        stage_kernels: side and dilation of its convolutions.
    """

    stage_dim: int = 8
    stage_kernels: Kernels = ((5, 1), (5, 3))

    def block(self, trunk: bool) -> Callable[..., nn.Module]:
        """As `Sliding.block`."""
        stage = functools.partial(
            blocks.PartialFeatures,
            convs=self.convs,
            features=self.stage_dim,
            kernels=self.stage_kernels,
            depthwise=True,
            fc=True,
        )
        attention = functools.partial(blocks.PixelAttention, self.convs, self.dim)
        return functools.partial(blocks.Distillation, self.convs, stage, attention, "concat")
