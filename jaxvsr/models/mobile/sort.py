"""SORT, a family of FANI's work log: information distillation."""

import functools
from collections.abc import Callable

import flax.linen as nn

from jaxvsr.models.mobile import blocks
from jaxvsr.models.mobile.sliding_window import Sliding


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
