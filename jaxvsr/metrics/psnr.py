"""Peak signal-to-noise ratio."""

import functools

import numpy as np
from jaxtyping import Float64

from jaxvsr.metrics.color import Frames, prepare
from jaxvsr.metrics.threads import by_frame


def psnr(sr: Frames, gt: Frames, crop: int = 0, channel: str = "rgb") -> Float64[np.ndarray, "*n"]:
    """PSNR of each frame, on 8-bit values.

    Args:
        sr, gt: (..., h, w, 3) RGB, uint8, or float in [0, 1], which is rounded to 8 bits.
        crop: width of the border that is not scored, pixels.
        channel: "rgb" or "y".

    Returns:
        (...) float64 in dB; infinite for equal frames.

    Raises:
        ValueError: different sizes, an unknown channel, or a crop that leaves nothing.

    Source: BasicSR's calculate_psnr.
    """
    return by_frame(functools.partial(_frame, crop=crop, channel=channel), sr, gt)


def _frame(sr: np.ndarray, gt: np.ndarray, crop: int, channel: str) -> float:
    """PSNR of a frame (h, w, 3)."""
    error = prepare(sr, crop, channel) - prepare(gt, crop, channel)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255**2 / np.mean(error**2))
