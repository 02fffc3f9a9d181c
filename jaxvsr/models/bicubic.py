"""Bicubic enlargement, the baseline: a model without parameters.

Source: Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -1/2,
as MATLAB's imresize and the field's baselines have it.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

MARGIN = 4  # input pixels that the kernel may look beyond the border, and more


class Bicubic(nn.Module):
    """Enlarges each frame for itself.

    Attributes:
        scale: upsampling factor.
        dtype: of the computation.
    """

    scale: int = 4
    dtype: Any = jnp.float32

    lookahead: ClassVar[int | None] = 0

    def __call__(self, lq: jax.Array, train: bool = False) -> jax.Array:
        """lq (b, t, h, w, 3) RGB in [0, 1] -> (b, t, scale*h, scale*w, 3) float32."""
        margin = (MARGIN, MARGIN)
        x = jnp.pad(lq.astype(self.dtype), ((0, 0), (0, 0), margin, margin, (0, 0)), "symmetric")
        *batch, h, w, c = x.shape
        x = jax.image.resize(x, (*batch, h * self.scale, w * self.scale, c), "cubic")
        edge = slice(MARGIN * self.scale, -MARGIN * self.scale)
        return x[:, :, edge, edge].astype(jnp.float32)
