"""Bicubic upsampling, the baseline: a model without parameters.

Source: Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -1/2,
as in MATLAB's imresize.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from jaxvsr.models.inputs import AnyArray, check_lq

MARGIN = 4  # padding in input pixels, at least the radius of the kernel


class Bicubic(nn.Module):
    """Bicubic upsampling of each frame.

    Attributes:
        scale: upsampling factor.
        dtype: of the computation.
    """

    scale: int = 4
    dtype: Any = jnp.float32

    lookahead: ClassVar[int | None] = 0

    def __call__(
        self, lq: Float[AnyArray, "b t h w 3"], train: bool = False
    ) -> Float32[Array, "b t {self.scale}*h {self.scale}*w 3"]:
        """Upsamples lq (b, t, h, w, 3) to (b, t, scale*h, scale*w, 3) float32, not clipped."""
        lq = check_lq(lq)
        margin = (MARGIN, MARGIN)
        x = jnp.pad(lq.astype(self.dtype), ((0, 0), (0, 0), margin, margin, (0, 0)), "symmetric")
        *batch, h, w, c = x.shape
        x = jax.image.resize(x, (*batch, h * self.scale, w * self.scale, c), "cubic")
        edge = slice(MARGIN * self.scale, -MARGIN * self.scale)
        return x[:, :, edge, edge].astype(jnp.float32)
