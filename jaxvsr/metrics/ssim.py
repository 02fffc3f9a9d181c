"""Structural similarity."""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64
from numpy.lib.stride_tricks import sliding_window_view

from jaxvsr.metrics.color import Frames, crop_border, planes
from jaxvsr.metrics.threads import by_frame

RADIUS = 5  # of the Gaussian window
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
# For speed only: rows of a band, which fits a core's cache, and window means per matrix product.
ROWS, BLOCK = 48, 8


def ssim(
    sr: Frames, gt: Frames, crop: int = 0, channel: str = "rgb", quantize: bool = True
) -> Float64[np.ndarray, "*n"]:
    """SSIM of each frame, with an 11x11 Gaussian window of sigma 1.5 inside the frame.

    Args:
        sr, gt: (..., h, w, 3) RGB, uint8, or float in [0, 1].
        crop: width of the border that is not scored, pixels.
        channel: "rgb", the mean over three channels, or "y".
        quantize: whether floats are rounded to 8 bits.

    Returns:
        (...) float64.

    Raises:
        ValueError: different sizes, an unknown channel, or frames smaller than the window.

    Source: Wang et al., "Image quality assessment: from error visibility to structural
        similarity", section III; BasicSR's calculate_ssim.
    """
    frame = functools.partial(_frame, crop=crop, channel=channel, quantize=quantize)
    return by_frame(frame, sr, gt)


def _frame(sr: np.ndarray, gt: np.ndarray, crop: int, channel: str, quantize: bool) -> float:
    """SSIM of a frame (h, w, 3), by bands of rows of each channel."""
    sr, gt = crop_border(sr, crop), crop_border(gt, crop)
    h, w = sr.shape[0] - 2 * RADIUS, sr.shape[1] - 2 * RADIUS
    if min(h, w) <= 0:
        raise ValueError(
            f"frames of {sr.shape[0]}x{sr.shape[1]} are too small; SSIM expects at least 11x11"
        )
    # Bands may extend beyond the bottom and the right of the frame; the sum leaves that out.
    width = -(-w // BLOCK) * BLOCK
    maps = np.zeros((4, ROWS + 2 * RADIUS, width + 2 * RADIUS))
    means = np.empty((4, ROWS, width))
    blur = _blur(maps, means)
    total, count = 0.0, 0
    for top in range(0, h, ROWS):
        rows = slice(top, top + ROWS + 2 * RADIUS)
        (xs, unit, zero), (ys, _, _) = (planes(x[rows], channel, quantize) for x in (sr, gt))
        for x, y in zip(xs, ys, strict=True):
            _combine(x, y, zero, maps)
            blur()
            similarity = _similarity(means, unit)[: h - top, :w]
            total += similarity.sum()
            count += similarity.size
    return total / count


def _combine(x: np.ndarray, y: np.ndarray, zero: float, maps: np.ndarray) -> None:
    """Writes x + y, x - y and their squares into a corner of maps (4, rows, columns).

    `zero` is added to x and y first. The means of these four maps replace the usual five of SSIM,
    which depends on the variances only by their sum.
    """
    h, w = x.shape
    plus, minus, plus_square, minus_square = maps
    np.add(x, zero, out=plus[:h, :w], dtype=np.float64)
    np.add(y, zero, out=minus_square[:h, :w], dtype=np.float64)
    # Whole arrays from here on: NumPy is much slower on rows that are not contiguous.
    np.subtract(plus, minus_square, out=minus)
    plus += minus_square
    np.square(plus, out=plus_square)
    np.square(minus, out=minus_square)


def _blur(maps: np.ndarray, means: np.ndarray) -> Callable[[], None]:
    """Makes a function that writes the Gaussian window means of `maps` into `means`.

    Each axis is filtered by products of small matrices, which compute BLOCK means at once. This
    takes more arithmetic than filtering tap by tap, but a single pass through memory.
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
    """SSIM at each pixel, from the means of `_combine`'s maps; overwrites them.

    Values are in the range 0..255*unit.
    """
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
