"""VSR, sliding-window recurrent networks with MVSR_1's partial features; FANI's work log."""

import functools
from collections.abc import Callable

import flax.linen as nn

from jaxvsr.models.mobile import blocks
from jaxvsr.models.mobile.blocks import Kernels
from jaxvsr.models.mobile.sliding_window import Sliding


class VSR(Sliding):
    """Recurrence of distillation blocks of partial features.

    Attributes:
        stage_dim: channels of a stage with depthwise convolutions.
        stage_kernels: kernel size and dilation of these convolutions.
    """

    stage_dim: int = 8
    stage_kernels: Kernels = ((5, 1), (5, 3))

    def block(self, trunk: bool) -> Callable[..., nn.Module]:
        """Makes blocks; see `Sliding.block`."""
        stage = functools.partial(
            blocks.PartialFeatures,
            convs=self.convs,
            features=self.stage_dim,
            kernels=self.stage_kernels,
            depthwise=True,
            fc=True,
        )
        attention = functools.partial(blocks.PixelAttention, self.convs, self.dim)
        return functools.partial(
            blocks.Distillation,
            convs=self.convs,
            stage=stage,
            attention=attention,
            merge="concat",
        )
