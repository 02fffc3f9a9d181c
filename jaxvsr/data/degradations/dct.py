"""JPEG compression as arithmetic, for NumPy and, through device.py, for JAX."""

import numpy as np
from jaxtyping import Shaped

from jaxvsr.data.degradations.common import (
    Array,
    as_dtype_of,
    check_frames,
    check_quality,
    per_frame,
    to_float,
)

# Annex K of the standard; rows are vertical frequencies. The implementation that networks are
# trained with transposes the tables, and so does the code below.
_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
_CHROMA = np.full((8, 8), 99, np.float32)
_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
# BT.601, full range: RGB -> YCbCr on 0..255 with Cb and Cr around zero; and back, with the
# standard's rounded coefficients.
_TO_YCBCR = np.array(
    [[0.299, -0.168736, 0.5], [0.587, -0.331264, -0.418688], [0.114, 0.5, -0.081312]], np.float32
)
_TO_RGB = np.array([[1, 1, 1], [0, -0.344136, 1.772], [1.402, -0.714136, 0]], np.float32)
# Row u is the u-th cosine: orthonormal.
_DCT = np.cos((2 * np.arange(8) + 1) * np.arange(8)[:, None] * np.pi / 16) / 2
_DCT[0] /= np.sqrt(2)
_DCT = _DCT.astype(np.float32)


def jpeg_dct(
    frames: Shaped[Array, "*b h w 3"], quality: float | Shaped[Array, "..."]
) -> Shaped[Array, "*b h w 3"]:
    """Applies the losses of JPEG without encoding: 4:2:0 chroma and quantized 8x8 DCT blocks.

    Equals the implementation that Real-ESRGAN trains with. A real JPEG file differs in its tables,
    which are transposed here, its smooth upsampling of chroma, and its rounded pixels.

    Args:
        frames: (..., h, w, 3) RGB, uint8, or float in [0, 1].
        quality: 1 (worst) to 100; one number, or one per frame.

    Returns:
        (..., h, w, 3) of the same dtype, in range.

    Raises:
        TypeError: frames are neither uint8 nor floating point.
        ValueError: frames of another shape, or a quality out of range.

    Source: ITU-T T.81, annexes A and K; Wang et al., "Real-ESRGAN", 2021, section 3.2.
    """
    check_frames(frames)
    if frames.shape[-1] != 3:
        raise ValueError(f"frames must be (..., h, w, 3) RGB, got shape {frames.shape}")
    check_quality(quality)
    xp = frames.__array_namespace__()
    h, w = frames.shape[-3:-1]
    # Padded with black to pairs of blocks; a JPEG file would repeat the border.
    margins = [(0, 0)] * (frames.ndim - 3) + [(0, -h % 16), (0, -w % 16), (0, 0)]
    x = xp.pad(to_float(frames), margins) * 255 @ _TO_YCBCR
    q = per_frame(quality, frames, "quality", trailing=5)
    factor = xp.where(q < 50, 5000 / q, 200 - 2 * q) / 100
    luma = _quantize(x[..., :1] - 128, _LUMA.T * factor) + 128
    *lead, rows, columns, _ = x.shape
    pairs = x[..., 1:].reshape(*lead, rows // 2, 2, columns // 2, 2, 2)
    chroma = _quantize(pairs.mean(axis=(-4, -2)), _CHROMA.T * factor)
    chroma = xp.repeat(xp.repeat(chroma, 2, axis=-3), 2, axis=-2)
    x = xp.concatenate([luma, chroma], axis=-1) @ _TO_RGB
    return as_dtype_of(frames, xp.clip(x[..., :h, :w, :], 0, 255) / 255)


def _quantize(x: Array, table: Array) -> Array:
    """Rounds the 8x8 cosine transforms of (..., h, w, c) to multiples of a table (..., 8, 8)."""
    xp = x.__array_namespace__()
    *lead, h, w, c = x.shape
    blocks = xp.moveaxis(x.reshape(*lead, h // 8, 8, w // 8, 8, c), -1, -5)
    blocks = xp.swapaxes(blocks, -3, -2)  # (..., c, h/8, w/8, 8, 8)
    rounded = xp.round(_DCT @ blocks @ _DCT.T / table)
    blocks = _DCT.T @ (rounded * table) @ _DCT
    blocks = xp.moveaxis(xp.swapaxes(blocks, -3, -2), -5, -1)
    return blocks.reshape(*lead, h, w, c)
