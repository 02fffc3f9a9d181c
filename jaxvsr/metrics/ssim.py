"""Structural similarity."""

import numpy as np
from scipy.ndimage import correlate1d

from jaxvsr.metrics.color import prepare

RADIUS = 5  # of the Gaussian window
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(sr: np.ndarray, gt: np.ndarray, crop: int = 0, channel: str = "rgb") -> np.ndarray:
    """SSIM of each frame: an 11x11 Gaussian window of sigma 1.5, wherever it fits in whole.

    Args:
        sr, gt: (..., h, w, 3) RGB, uint8, or float in [0, 1], which is rounded to 8 bits.
        crop: border that is not scored, pixels.
        channel: "rgb", the mean over the three, or "y".

    Returns:
        (...) float64.

    Raises:
        ValueError: sizes that differ, an unknown channel, or frames smaller than the window.

    Source: Wang et al., "Image quality assessment: from error visibility to structural
        similarity", section III; BasicSR's calculate_ssim.
    """
    if sr.shape != gt.shape:
        raise ValueError(f"sr {sr.shape} and gt {gt.shape} differ in size")
    x, y = prepare(sr, crop, channel), prepare(gt, crop, channel)
    if min(x.shape[-3:-1]) <= 2 * RADIUS:
        raise ValueError(f"frames of {x.shape[-3]}x{x.shape[-2]} are smaller than the window")
    mean_x, mean_y = _blur(x), _blur(y)
    square, product = mean_x**2 + mean_y**2, mean_x * mean_y
    variances = _blur(x**2 + y**2) - square
    covariance = _blur(x * y) - product
    similarity = (2 * product + C1) * (2 * covariance + C2) / ((square + C1) * (variances + C2))
    return similarity.mean((-3, -2, -1))


def _blur(x: np.ndarray) -> np.ndarray:
    """The Gaussian mean of (..., h, w, c) where the window fits in whole."""
    taps = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    x = correlate1d(x, taps, axis=-3)[..., RADIUS:-RADIUS, :, :]
    return correlate1d(x, taps, axis=-2)[..., RADIUS:-RADIUS, :]
