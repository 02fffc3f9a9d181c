"""SORT, sliding-window recurrent networks with information distillation; FANI's work log."""

import functools
from collections.abc import Callable

import flax.linen as nn

from jaxvsr.models.mobile import blocks
from jaxvsr.models.mobile.sliding_window import Sliding


class SORT(Sliding):
    """Recurrence of information distillation blocks.

    Attributes:
        widths, kept, contrast: as in `blocks.InformationDistillation`.
    """

    widths: tuple[int, int, int] = (24, 16, 8)
    kept: int = 8
    contrast: bool = False

    def block(self, trunk: bool) -> Callable[..., nn.Module]:
        """Makes blocks; see `Sliding.block`."""
        return functools.partial(
            blocks.InformationDistillation,
            convs=self.convs,
            widths=self.widths,
            kept=self.kept,
            contrast=self.contrast,
        )
