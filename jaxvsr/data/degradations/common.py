"""Checks, dtypes and arithmetic that the degradations share.

Functions of an `Array` accept NumPy and JAX arrays and compute with the array's own library.
`device.py` calls them with JAX arrays at full matmul precision.
"""

import math
from typing import Any

import numpy as np

from jaxvsr.pixels import to_integers

Array = Any  # numpy.ndarray or jax.Array, by way of __array_namespace__


def check_frames(frames: Array) -> None:
    """Raises unless frames are (..., h, w, c), uint8 or floating point, and not empty.

    Raises:
        TypeError: another dtype.
        ValueError: another shape.
    """
    if frames.dtype != np.uint8 and not is_float(frames):
        raise TypeError(f"frames must be uint8 or float, got {frames.dtype}")
    if frames.ndim < 3 or 0 in frames.shape[-3:]:
        raise ValueError(f"frames must be (..., h, w, c) and not empty, got shape {frames.shape}")


def check_uint8_frames(frames: np.ndarray) -> None:
    """Raises unless frames are (..., h, w, 3) uint8 and not empty, as codecs need them.

    Raises:
        TypeError: another dtype.
        ValueError: another shape.
    """
    if frames.dtype != np.uint8:
        raise TypeError(f"frames must be uint8, got {frames.dtype}")
    if frames.ndim < 3 or frames.shape[-1] != 3 or 0 in frames.shape[-3:]:
        raise ValueError(f"frames must be (..., h, w, 3) and not empty, got shape {frames.shape}")


def check_clip(frames: np.ndarray) -> None:
    """As `check_uint8_frames`, for a clip (t, h, w, 3)."""
    check_uint8_frames(frames)
    if frames.ndim != 4 or not len(frames):
        raise ValueError(f"a clip must be (t, h, w, 3) and not empty, got shape {frames.shape}")


def is_float(frames: Array) -> bool:
    """Whether the dtype is floating point; bfloat16 counts."""
    xp = frames.__array_namespace__()
    return bool(xp.isdtype(frames.dtype, "real floating"))


def to_float(frames: Array) -> Array:
    """Converts uint8 to float32 in [0, 1], and other floats to float32 or wider."""
    if frames.dtype == np.uint8:
        return frames.astype(np.float32) / np.float32(255)
    xp = frames.__array_namespace__()
    return frames.astype(xp.result_type(frames.dtype, np.float32))


def round_half_up(x: Array) -> Array:
    """Rounds non-negative values to uint8 as MATLAB does, whose ties go up.

    Everything else in this package rounds half to even: `jaxvsr.pixels.to_integers`.
    """
    xp = x.__array_namespace__()
    return xp.floor(x + 0.5).astype(np.uint8)


def as_dtype_of(frames: Array, result: Array) -> Array:
    """Converts a float result in [0, 1] to the dtype of the frames it was computed from."""
    return to_integers(result) if frames.dtype == np.uint8 else result.astype(frames.dtype)


def as_matlab(frames: Array, result: Array) -> Array:
    """As `as_dtype_of`, with MATLAB's rounding of uint8."""
    if frames.dtype != np.uint8:
        return result.astype(frames.dtype)
    xp = result.__array_namespace__()
    wide = np.float64 if xp is np else np.float32
    return round_half_up(255 * xp.clip(result, 0, 1).astype(wide))


def reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Mirrors indices outside of an axis at its first and last element (OpenCV's reflect-101)."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return np.minimum(index, period - index) if size > 1 else np.zeros_like(index)


def per_frame(value: Any, frames: Array, name: str, trailing: int = 3) -> Array:
    """Adds axes to a number per frame, so that it broadcasts against (..., h, w, c).

    Args:
        value: a number, or an array that broadcasts to the frames' leading axes.
        frames: (..., h, w, c).
        name: of the value, for the message.
        trailing: number of axes to add.

    Returns:
        float32 (..., 1, 1, 1).

    Raises:
        ValueError: value does not broadcast to the leading axes.
    """
    xp = frames.__array_namespace__()
    value = xp.asarray(value, dtype=np.float32)
    lead = frames.shape[:-3]
    try:
        fits = np.broadcast_shapes(value.shape, lead) == lead
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} must be a number, or one per frame of shape {lead}, got shape {value.shape}"
        )
    return value.reshape(value.shape + (1,) * trailing)


def positive(value: float) -> bool:
    """Whether a number is positive and finite."""
    return 0 < value < math.inf


def check_quality(quality: Any) -> None:
    """Raises ValueError unless a quality is in 1..100; traced values are not checked."""
    if isinstance(quality, int | float | np.generic | np.ndarray) and not (
        np.all(np.asarray(quality) >= 1) and np.all(np.asarray(quality) <= 100)
    ):
        raise ValueError(f"quality must be in 1..100, got {quality}")
