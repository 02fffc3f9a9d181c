"""ABPN: plain convolutions per frame; the residual is added to the repeated input pixels.

Source: Du et al., "Anchor-based Plain Net for Mobile Image Super-Resolution", section 3.
"""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from jaxvsr.models.mobile.base import Windowed


class ABPN(Windowed):
    """Anchor-based plain net for single frames.

    Attributes:
        num_blocks: number of convolutions between the first and the last two.
    """

    dim: int = 28
    num_blocks: int = 4

    lookahead: ClassVar[int] = 0
    nearest: ClassVar[bool] = True

    @nn.compact
    def residual(
        self, frames: Sequence[Float[Array, "b *t h w 3"]], train: bool
    ) -> Float[Array, "b *t h w _"]:
        """Predicts the residual image; see `Windowed.residual`."""
        x = nn.relu(self.convs(frames[1], self.dim, inner=True, name="conv_first"))
        for i in range(self.num_blocks):
            x = nn.relu(self.convs(x, self.dim, inner=True, name=f"conv_{i}"))
        features = 3 * self.scale**2
        x = nn.relu(self.convs(x, features, inner=True, name="conv_up"))
        return self.convs(x, features, name="conv_last")
