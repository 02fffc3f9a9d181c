"""Gradient magnitude similarity deviation."""

import functools

import numpy as np
from jaxtyping import Float64

from jaxvsr.metrics.color import Frames, prepare
from jaxvsr.metrics.threads import by_frame

T = 170  # stabilizing constant, for values in 0..255


def gmsd(sr: Frames, gt: Frames, crop: int = 0, channel: str = "y") -> Float64[np.ndarray, "*n"]:
    """GMSD of each frame: the deviation of the similarity of gradient magnitudes.

    Args:
        sr, gt: (..., h, w, 3) RGB, uint8, or float in [0, 1], which is rounded to 8 bits.
        crop: width of the border that is not scored, pixels.
        channel: "y", the metric's definition, or "rgb", the mean over three channels.

    Returns:
        (...) float64 >= 0; 0 for equal frames.

    Raises:
        ValueError: different sizes, an unknown channel, or frames smaller than 3x3.

    Source: Xue et al., "Gradient magnitude similarity deviation: a highly efficient perceptual
        image quality index", section II; sample deviation as in the authors' code.
    """
    return by_frame(functools.partial(_frame, crop=crop, channel=channel), sr, gt)


def _frame(sr: np.ndarray, gt: np.ndarray, crop: int, channel: str) -> float:
    """GMSD of a frame (h, w, 3)."""
    x, y = prepare(sr, crop, channel), prepare(gt, crop, channel)
    if min(x.shape[:2]) < 3:
        raise ValueError(
            f"frames of {x.shape[0]}x{x.shape[1]} are too small; GMSD expects at least 3x3"
        )
    x, y = _gradient(_halve(x)), _gradient(_halve(y))
    similarity = (2 * x * y + T) / (x**2 + y**2 + T)
    return similarity.std((0, 1), ddof=1).mean()


def _halve(x: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels of (h, w, c), with zeros beyond the border of an odd size."""
    x = np.pad(x, ((0, x.shape[0] % 2), (0, x.shape[1] % 2), (0, 0)))
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


def _gradient(x: np.ndarray) -> np.ndarray:
    """Magnitude of the Prewitt gradient of (h, w, c), with zeros beyond the border."""
    x = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    down = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    along = x[:-2] + x[1:-1] + x[2:]
    return np.sqrt((down[2:] - down[:-2]) ** 2 + (along[:, 2:] - along[:, :-2]) ** 2) / 3
