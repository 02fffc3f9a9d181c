"""Preparation of frames for metrics: rounding, cropping, color conversion."""

import numpy as np
from jaxtyping import Float, Float64, Shaped, UInt8

from jaxvsr.pixels import to_integers

# RGB frames as 8-bit integers, or as floats in [0, 1].
Frames = Float[np.ndarray, "*n h w c"] | UInt8[np.ndarray, "*n h w c"]


def prepare(
    frames: Frames, crop: int, channel: str, quantize: bool = True
) -> Float64[np.ndarray, "*n _ _ _"]:
    """Rounds, crops and converts frames, in the order of the official protocols.

    Args:
        frames: (..., h, w, 3) RGB: uint8, or float in [0, 1], which is clipped.
        crop: width of the border removed on all four sides, pixels.
        channel: "rgb", or "y": BT.601's studio-swing luma, not rounded.
        quantize: whether floats are rounded to 8 bits, halves to even.

    Returns:
        (..., h, w, 3 or 1) float64 in the range 0..255.

    Raises:
        TypeError: integers other than uint8.
        ValueError: an unknown channel, or a crop that leaves nothing.
    """
    return convert(crop_border(frames, crop), channel, quantize).astype(np.float64, copy=False)


def crop_border(
    frames: Shaped[np.ndarray, "*n h w c"], crop: int
) -> Shaped[np.ndarray, "*n h-2*{crop} w-2*{crop} c"]:
    """Removes the border of frames; the first step of `prepare`."""
    h, w = frames.shape[-3:-1]
    if crop < 0:
        raise ValueError(f"crop={crop} must not be negative")
    if 2 * crop >= min(h, w):
        raise ValueError(f"crop={crop} leaves nothing of frames of {h}x{w}")
    return frames[..., crop : h - crop, crop : w - crop, :]


def convert(
    frames: Frames, channel: str, quantize: bool = True
) -> Shaped[np.ndarray, "*n h w c"] | Float64[np.ndarray, "*n h w 1"]:
    """Scales frames to 0..255 and converts them to a channel; the second step of `prepare`."""
    if channel == "rgb":
        return rounded(frames, quantize)
    (luma,), unit, zero = planes(frames, channel, quantize)
    return (luma.astype(np.float64) + zero)[..., None] / unit


def planes(
    frames: Frames, channel: str, quantize: bool = True
) -> tuple[Shaped[np.ndarray, "_ *n h w"], float, float]:
    """Color planes, of rounded frames as exact integers, before scaling.

    Returns:
        (planes, unit, zero): planes are (3 or 1, ..., h, w) uint8 or floating-point, and
        (planes + zero) / unit is in the range 0..255.
    """
    if channel not in ("rgb", "y"):
        raise ValueError(f"channel {channel!r} must be 'rgb' or 'y'")
    frames = rounded(frames, quantize)
    if channel == "rgb":
        return np.moveaxis(frames, -1, 0), 1.0, 0.0
    # BT.601's 65.481, 128.553 and 24.966 divided by 0.219: luma is exact in single precision.
    luma = frames.astype(np.float32) @ np.array([299, 587, 114], np.float32)
    unit = 255 / 0.219
    return luma[None], unit, 16 * unit


def rounded(frames: Frames, quantize: bool = True) -> np.ndarray:
    """Rounds floats in [0, 1] to uint8, or only scales them; returns uint8 unchanged."""
    if frames.dtype == np.uint8:
        return frames
    if frames.dtype.kind in "iub":
        raise TypeError(f"frames must be uint8, or float in [0, 1], got {frames.dtype}")
    # As the official code, scale in single precision at least.
    frames = frames.astype(np.result_type(frames.dtype, np.float32), copy=False)
    return to_integers(frames) if quantize else 255 * frames.clip(0, 1)
