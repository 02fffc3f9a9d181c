"""Peak signal-to-noise ratio."""

import functools

import numpy as np
from jaxtyping import Float64

from jaxvsr.metrics.color import Frames, prepare
from jaxvsr.metrics.threads import by_frame


def psnr(
    sr: Frames, gt: Frames, crop: int = 0, channel: str = "rgb", quantize: bool = True
) -> Float64[np.ndarray, "*n"]:
    """PSNR of each frame, on the scale of 8-bit values.

    Args:
        sr, gt: (..., h, w, 3) RGB, uint8, or float in [0, 1].
        crop: width of the border that is not scored, pixels.
        channel: "rgb" or "y".
        quantize: whether floats are rounded to 8 bits.

    Returns:
        (...) float64 in dB; infinite for equal frames.

    Raises:
        ValueError: different sizes, an unknown channel, or a crop that leaves nothing.

    Source: BasicSR's calculate_psnr.
    """
    frame = functools.partial(_frame, crop=crop, channel=channel, quantize=quantize)
    return by_frame(frame, sr, gt)


def _frame(sr: np.ndarray, gt: np.ndarray, crop: int, channel: str, quantize: bool) -> float:
    """PSNR of a frame (h, w, 3)."""
    error = prepare(sr, crop, channel, quantize) - prepare(gt, crop, channel, quantize)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255**2 / np.mean(error**2))
