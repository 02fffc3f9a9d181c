"""SWAT, a family of FANI's work log: large-kernel attention of partial convolutions."""

import functools
from collections.abc import Callable
from typing import Literal

import flax.linen as nn

from jaxvsr.models.mobile import blocks
from jaxvsr.models.mobile.blocks import Kernels
from jaxvsr.models.mobile.sliding_window import Sliding


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
