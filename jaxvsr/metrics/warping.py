"""Flicker as the difference of neighboring frames along their motion."""

import itertools

import numpy as np
from jaxtyping import Float64

from jaxvsr.metrics.color import Frames, convert
from jaxvsr.metrics.threads import check_clips
from jaxvsr.metrics.tof import farneback


def warping_error(sr: Frames, gt: Frames) -> Float64[np.ndarray, " pairs"]:
    """Warping error of each pair of neighboring frames: what changes in sr along the motion of gt.

    The motion is Farneback's flow between the frames of gt, as in `tof`. Pixels without a
    consistent flow back, which are covered in one of the frames, do not count.

    Args:
        sr, gt: (t, h, w, 3) RGB, uint8, or float in [0, 1], which is rounded to 8 bits.

    Returns:
        (t - 1,) float64 >= 0: the mean absolute difference of a frame and the previous one,
        warped, in grey levels of 0..255; NaN where no pixel counts.

    Raises:
        ImportError: OpenCV is not installed.
        ValueError: different sizes, or fewer than two frames.

    Source: Lai et al., "Learning blind video temporal consistency", section 4.2, with absolute
        instead of squared differences; pixels that count as in Ruder et al., "Artistic style
        transfer for videos", equation 5.
    """
    check_clips(sr, gt)
    if sr.ndim != 4 or len(sr) < 2:
        raise ValueError(
            f"frames have shape {sr.shape}; the warping error expects (t, h, w, 3) with at least "
            "two frames"
        )
    pairs = zip(itertools.pairwise(sr), itertools.pairwise(gt), strict=True)
    return np.array([_pair(*of_sr, *of_gt) for of_sr, of_gt in pairs])


def _pair(sr_before: np.ndarray, sr: np.ndarray, before: np.ndarray, now: np.ndarray) -> float:
    """Warping error of a frame of sr, by the flow from a frame of gt to the one before."""
    flow, back = farneback(now, before), farneback(before, now)
    back = _warp(back, flow)
    height, width = flow.shape[:2]
    place = flow + np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    inside = ((place >= 0) & (place <= [width - 1, height - 1])).all(-1)
    least = 0.01 * ((flow**2).sum(-1) + (back**2).sum(-1)) + 0.5
    counts = inside & (((flow + back) ** 2).sum(-1) < least)
    sr_before, sr = (convert(x, "rgb").astype(np.float32) for x in (sr_before, sr))
    change = np.abs(sr - _warp(sr_before, flow))[counts]
    return float(change.mean(dtype=np.float64)) if change.size else np.nan


def _warp(x: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Samples (h, w, c) bilinearly at each pixel's place plus flow (h, w, 2); edges repeat."""
    import cv2

    rows, columns = np.indices(flow.shape[:2], np.float32)
    across, down = columns + flow[..., 0], rows + flow[..., 1]
    return cv2.remap(x, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
