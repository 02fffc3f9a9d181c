"""What the metrics are computed on."""

import numpy as np

from jaxvsr.pixels import to_integers


def prepare(frames: np.ndarray, crop: int, channel: str) -> np.ndarray:
    """Rounds, crops and converts frames, in the order of the published protocols.

    Args:
        frames: (..., h, w, 3) RGB: uint8, or float in [0, 1], which is clipped and rounded to 8
            bits, halves to even.
        crop: border that is cut off all four sides, pixels.
        channel: "rgb", or "y": BT.601's studio-swing luma, not rounded.

    Returns:
        (..., h, w, 3 or 1) float64 on the scale of 0..255.

    Raises:
        TypeError: integers other than uint8.
        ValueError: an unknown channel, or a crop that leaves nothing.
    """
    return convert(cut(frames, crop), channel).astype(np.float64, copy=False)


def cut(frames: np.ndarray, crop: int) -> np.ndarray:
    """The first part of `prepare`: frames without their border."""
    h, w = frames.shape[-3:-1]
    if crop < 0:
        raise ValueError(f"a crop of {crop} is negative")
    if 2 * crop >= min(h, w):
        raise ValueError(f"a crop of {crop} leaves nothing of frames of {h}x{w}")
    return frames[..., crop : h - crop, crop : w - crop, :]


def convert(frames: np.ndarray, channel: str) -> np.ndarray:
    """The second: rounded frames (..., h, w, 3) uint8, or their luma (..., h, w, 1) float64."""
    if channel == "rgb":
        return _rounded(frames)
    (luma,), unit, zero = planes(frames, channel)
    return (luma.astype(np.float64) + zero)[..., None] / unit


def planes(frames: np.ndarray, channel: str) -> tuple[np.ndarray, float, float]:
    """`convert` in whole numbers, before they are scaled.

    Returns:
        p (3 or 1, ..., h, w) uint8 or float32, unit and zero: (p + zero) / unit is on 0..255.
    """
    if channel not in ("rgb", "y"):
        raise ValueError(f"channel {channel!r} is neither 'rgb' nor 'y'")
    frames = _rounded(frames)
    if channel == "rgb":
        return np.moveaxis(frames, -1, 0), 1.0, 0.0
    # 65.481, 128.553 and 24.966 are these times 0.219: so luma is exact in single precision.
    luma = frames.astype(np.float32) @ np.array([299, 587, 114], np.float32)
    unit = 255 / 0.219
    return luma[None], unit, 16 * unit


def _rounded(frames: np.ndarray) -> np.ndarray:
    if frames.dtype == np.uint8:
        return frames
    if frames.dtype.kind in "iub":
        raise TypeError(f"frames must be uint8, or float in [0, 1], got {frames.dtype}")
    # In single precision at least, as the official code scales what its networks give.
    frames = frames.astype(np.result_type(frames.dtype, np.float32), copy=False)
    return to_integers(frames)
