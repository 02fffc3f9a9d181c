"""SWAT, sliding-window recurrent networks with large-kernel attention; FANI's work log."""

import functools
from collections.abc import Callable
from typing import Literal

import flax.linen as nn

from jaxvsr.models.mobile import blocks
from jaxvsr.models.mobile.blocks import Kernels
from jaxvsr.models.mobile.sliding_window import Sliding


class SWAT(Sliding):
    """Recurrence of large-kernel attention blocks with partial convolutions.

    Attributes:
        attention_dim: channels inside a block of a branch; `dim` inside a block of the trunk.
        pointwise, mix, mix_ratio, kernels, ratio, depthwise: as in `blocks.LargeAttention`.
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
        """Makes blocks; see `Sliding.block`."""
        return functools.partial(
            blocks.LargeAttention,
            convs=self.convs,
            features=self.dim if trunk else self.attention_dim,
            pointwise=self.pointwise,
            mix=self.mix,
            mix_ratio=self.mix_ratio,
            kernels=self.kernels,
            ratio=self.ratio,
            depthwise=self.depthwise,
        )
