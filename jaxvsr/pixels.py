"""Pixel arithmetic that networks, data, metrics and video share. It needs NumPy alone."""

from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8, UInt16


def to_integers(x: Float[Any, "*shape"], dtype: Any = np.uint8) -> Integer[Any, "*shape"]:
    """Converts floats in [0, 1] to integers, clipped and rounded half to even.

    Args:
        x: floating-point array of NumPy or JAX, any shape.
        dtype: uint8 or uint16.

    Returns:
        An array of the same shape; 1.0 becomes the largest integer of the dtype.

    Source: torch.round and np.round, by which the official test scripts quantize their outputs.
    """
    return (x.clip(0, 1) * np.iinfo(dtype).max).round().astype(dtype)


def to_8_bits(x: Integer[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Converts uint16 to uint8 by the nearest value; returns uint8 unchanged."""
    if x.dtype == np.uint8:
        return x
    return ((x.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_16_bits(x: Integer[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """Converts uint8 to the uint16 of the same brightness; returns uint16 unchanged."""
    return x if x.dtype == np.uint16 else x.astype(np.uint16) * np.uint16(257)


def cubic_kernel(distance: Float[np.ndarray, "*shape"], a: float) -> Float[np.ndarray, "*shape"]:
    """Evaluates the cubic convolution kernel.

    Args:
        distance: from the sample, in pixels, any sign.
        a: slope at distance 1: -1/2 in MATLAB, -3/4 in PyTorch and OpenCV.

    Returns:
        Weights of the same shape; 0 beyond a distance of 2.

    Source: Keys, "Cubic convolution interpolation for digital image processing", 1981.
    """
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x <= 2, far, 0))
