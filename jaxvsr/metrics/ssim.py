"""Structural similarity."""

import functools
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from jaxvsr.metrics.color import cut, planes
from jaxvsr.metrics.threads import by_frame

RADIUS = 5  # of the Gaussian window
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
# Sizes for speed alone: so many rows at once stay in a core's cache, and means are taken by
# matrices that give so many from the pixels that these need.
ROWS, BLOCK = 48, 8


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
    return by_frame(functools.partial(_frame, crop=crop, channel=channel), sr, gt)


def _frame(sr: np.ndarray, gt: np.ndarray, crop: int, channel: str) -> float:
    """SSIM of a frame (h, w, 3), a band of rows of a channel at a time."""
    sr, gt = cut(sr, crop), cut(gt, crop)
    h, w = sr.shape[0] - 2 * RADIUS, sr.shape[1] - 2 * RADIUS
    if min(h, w) <= 0:
        raise ValueError(f"frames of {sr.shape[0]}x{sr.shape[1]} are smaller than the window")
    # The last band reaches beyond the frame, and all may to the right: that is left out of the sum.
    width = -(-w // BLOCK) * BLOCK
    maps = np.zeros((4, ROWS + 2 * RADIUS, width + 2 * RADIUS))
    means = np.empty((4, ROWS, width))
    blur = _blur(maps, means)
    total, count = 0.0, 0
    for top in range(0, h, ROWS):
        rows = slice(top, top + ROWS + 2 * RADIUS)
        (xs, unit, zero), (ys, _, _) = (planes(frame[rows], channel) for frame in (sr, gt))
        for x, y in zip(xs, ys, strict=True):
            _combine(x, y, zero, maps)
            blur()
            similarity = _similarity(means, unit)[: h - top, :w]
            total += similarity.sum()
            count += similarity.size
    return total / count


def _combine(x: np.ndarray, y: np.ndarray, zero: float, maps: np.ndarray) -> None:
    """Writes x + y, x - y and their squares into the corner of maps (4, rows, columns), `zero`
    having been added to x and y.

    The means of these four are all that SSIM needs, of the usual five: it asks for the variances'
    sum alone, and what it asks for is sums and differences of the four.
    """
    h, w = x.shape
    plus, minus, plus_square, minus_square = maps
    np.add(x, zero, out=plus[:h, :w], dtype=np.float64)
    np.add(y, zero, out=minus_square[:h, :w], dtype=np.float64)
    # Whole arrays from here on: NumPy is far slower where rows are not next to each other.
    np.subtract(plus, minus_square, out=minus)
    plus += minus_square
    np.square(plus, out=plus_square)
    np.square(minus, out=minus_square)


def _blur(maps: np.ndarray, means: np.ndarray) -> Callable[[], None]:
    """What writes the Gaussian means of maps, where the window fits in whole, into `means`.

    Each axis in turn, by products of small matrices: BLOCK means from the pixels that they need.
    That is more arithmetic than tap by tap, but a single pass through memory.
    """
    n, rows = means.shape[:2]
    size = BLOCK + 2 * RADIUS
    taps = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * 1.5**2))
    padded = np.pad(taps / taps.sum(), BLOCK - 1)
    down = np.ascontiguousarray(sliding_window_view(padded, size)[::-1])
    along = np.ascontiguousarray(down.T)
    half = np.empty((n, rows, maps.shape[2]))
    down_in = sliding_window_view(maps, size, axis=1)[:, ::BLOCK].swapaxes(2, 3)
    down_out = half.reshape(n, -1, BLOCK, half.shape[2])
    along_in = sliding_window_view(half.reshape(n * rows, -1), size, 1)[:, ::BLOCK].swapaxes(0, 1)
    along_out = means.reshape(n * rows, -1, BLOCK).swapaxes(0, 1)

    def blur() -> None:
        np.matmul(down, down_in, out=down_out)
        np.matmul(along_in, along, out=along_out)

    return blur


def _similarity(means: np.ndarray, unit: float) -> np.ndarray:
    """SSIM at each pixel, from the means of what `_combine` gives of planes on 0..255*unit;
    overwrites them."""
    c1, c2 = C1 * unit**2, C2 * unit**2
    plus, minus, plus_square, minus_square = means
    plus *= plus
    minus *= minus
    plus += 2 * c1
    plus_square += 2 * c1 + 2 * c2
    means_product, means_square = plus - minus, plus + minus
    covariance, variances = plus_square - minus_square, plus_square + minus_square
    covariance -= means_product
    variances -= means_square
    means_product *= covariance
    means_square *= variances
    means_product /= means_square
    return means_product
