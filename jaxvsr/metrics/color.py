"""What both PSNR and SSIM are computed on."""

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
        ValueError: an unknown channel, or a crop that leaves nothing.
    """
    if channel not in ("rgb", "y"):
        raise ValueError(f"channel {channel!r} is neither 'rgb' nor 'y'")
    h, w = frames.shape[-3:-1]
    if 2 * crop >= min(h, w):
        raise ValueError(f"a crop of {crop} leaves nothing of frames of {h}x{w}")
    if frames.dtype != np.uint8:
        frames = np.round(np.clip(frames, 0, 1).astype(np.float64) * 255)
    frames = frames[..., crop : h - crop, crop : w - crop, :].astype(np.float64)
    if channel == "y":
        return frames @ (np.array([[65.481], [128.553], [24.966]]) / 255) + 16
    return frames
