"""VSR, a family of FANI's work log: the partial features of MVSR_1."""

import functools
from collections.abc import Callable

import flax.linen as nn

from jaxvsr.models.mobile import blocks
from jaxvsr.models.mobile.blocks import Kernels
from jaxvsr.models.mobile.sliding_window import Sliding


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
