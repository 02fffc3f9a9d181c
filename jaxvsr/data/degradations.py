"""Degradations that make the low-resolution frames, as the field's protocols define them."""

import functools
import math

import numpy as np


def imresize(frames: np.ndarray, scale: float) -> np.ndarray:
    """Resizes frames by antialiased bicubic interpolation, to the bit as MATLAB's imresize does.

    Args:
        frames: (..., h, w, c), uint8, or float with a nominal range of [0, 1].
        scale: factor > 0 on both axes, such as 1/4 or 4.

    Returns:
        (..., ceil(h*scale), ceil(w*scale), c) of the same dtype: uint8 rounded once at the end
        (half up) and clipped, float neither rounded nor clipped.

    Raises:
        TypeError: frames are neither uint8 nor floating point.
        ValueError: frames have no (h, w, c) axes or no pixels, or scale is not a positive number.

    Source: MATLAB, imresize(im2double(A), scale, "bicubic"); Keys, "Cubic convolution
    interpolation for digital image processing", 1981, with a = -1/2.
    """
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 and not np.issubdtype(frames.dtype, np.floating):
        raise TypeError(f"frames must be uint8 or float, got {frames.dtype}")
    if frames.ndim < 3 or 0 in frames.shape[-3:]:
        raise ValueError(f"frames must be (..., h, w, c) with pixels, got shape {frames.shape}")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be a positive number, got {scale}")
    if frames.dtype == np.uint8:
        # Float32 in [0, 1], as the field's other implementations compute: values that lie within
        # their rounding errors of a half then become the same byte as in published data.
        resized = imresize(frames.astype(np.float32) / np.float32(255), scale)
        return np.floor(255 * np.clip(resized, 0, 1, dtype=np.float64) + 0.5).astype(np.uint8)
    *lead, h, w, c = frames.shape
    x = frames.reshape(-1, h, w, c).astype(np.result_type(frames.dtype, np.float32), copy=False)
    x = _resize_first(x.transpose(1, 0, 2, 3), scale)
    x = _resize_first(x.transpose(2, 1, 0, 3), scale)
    x = x.transpose(1, 2, 0, 3)
    return x.astype(frames.dtype, copy=False).reshape(*lead, *x.shape[1:])


def _resize_first(x: np.ndarray, scale: float) -> np.ndarray:
    """Resizes the first axis of x (size, ...).

    Tap by tap and without BLAS, so that every machine adds in the same order.
    """
    sources, weights = _taps(len(x), scale)
    rows = np.ascontiguousarray(x).reshape(len(x), math.prod(x.shape[1:]))
    total = np.zeros((sources.shape[1], rows.shape[1]), x.dtype)
    term = np.empty_like(total)
    for source, weight in zip(sources, weights, strict=True):
        np.take(rows, source, axis=0, out=term, mode="clip")
        term *= weight[:, None].astype(x.dtype)
        total += term
    return total.reshape(len(total), *x.shape[1:])


@functools.lru_cache(maxsize=256)
def _taps(size: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and weights (taps, ceil(size*scale)) of the outputs on an axis of length size."""
    shrink = min(scale, 1.0)
    # The nominal scale, not out/size, places the samples: for sizes that it does not divide the
    # last output then looks beyond the border, as MATLAB's does.
    out = math.ceil(size * scale)
    centre = np.arange(1, out + 1) / scale + 0.5 * (1 - 1 / scale)
    tap = np.floor(centre - 2 / shrink) + np.arange(math.ceil(4 / shrink) + 2)[:, None]
    weight = _cubic(shrink * (centre - tap))
    weight /= weight.sum(axis=0)
    used = weight.any(axis=1)
    mirror = np.concatenate([np.arange(size), np.arange(size)[::-1]])
    return mirror[(tap[used].astype(np.int64) - 1) % (2 * size)], weight[used]


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -1/2."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x**2 + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, inner, np.where(x <= 2, outer, 0))
