"""ABPN: plain convolutions of one frame, added to its repeated pixels.

Source: Du et al., "Anchor-based Plain Net for Mobile Image Super-Resolution", section 3.
"""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax

from jaxvsr.models.mobile.base import Windowed


class ABPN(Windowed):
    """Each frame by itself.

    Attributes:
        num_blocks: convolutions between the first and the last two.
    """

    dim: int = 28
    num_blocks: int = 4

    lookahead: ClassVar[int] = 0
    nearest: ClassVar[bool] = True

    @nn.compact
    def restore(self, frames: Sequence[jax.Array], train: bool) -> jax.Array:
        """As `Windowed.restore`."""
        x = nn.relu(self.convs(frames[1], self.dim, name="conv_first"))
        for i in range(self.num_blocks):
            x = nn.relu(self.convs(x, self.dim, name=f"conv_{i}"))
        features = 3 * self.scale**2
        x = nn.relu(self.convs(x, features, name="conv_up"))
        return self.convs(x, features, name="conv_last")
