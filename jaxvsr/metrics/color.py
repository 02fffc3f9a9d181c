"""What the metrics are computed on."""

import numpy as np


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
    values, unit = planes(frames, channel)
    frames = np.moveaxis(values, 0, -1)
    return frames if unit == 1 else frames / unit


def planes(frames: np.ndarray, channel: str) -> tuple[np.ndarray, int]:
    """`convert` in whole numbers.

    Returns:
        (3 or 1, ..., h, w) uint8 or int32, and the number that stands for 1 on the scale of 0..255.
    """
    if channel not in ("rgb", "y"):
        raise ValueError(f"channel {channel!r} is neither 'rgb' nor 'y'")
    if frames.dtype != np.uint8:
        if frames.dtype.kind in "iub":
            raise TypeError(f"frames must be uint8, or float in [0, 1], got {frames.dtype}")
        # In single precision at least, as the official code scales what its networks give.
        frames = frames.astype(np.result_type(frames.dtype, np.float32), copy=False)
        frames = np.round(np.clip(frames, 0, 1) * 255).astype(np.uint8)
    colors = np.moveaxis(frames, -1, 0)
    if channel == "rgb":
        return colors, 1
    # Luma's weights are whole thousandths: integers are exact, and faster than float64.
    luma, green, blue = colors.astype(np.int32, order="C")
    luma *= 65_481
    green *= 128_553
    blue *= 24_966
    luma += green
    luma += blue
    luma += 16 * 255_000
    return luma[None], 255_000
