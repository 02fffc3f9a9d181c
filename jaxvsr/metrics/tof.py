"""Temporal consistency as the difference of optical flows."""

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from jaxvsr.metrics.color import Frames, convert
from jaxvsr.metrics.threads import check_clips


def tof(sr: Frames, gt: Frames) -> Float64[np.ndarray, " pairs"]:
    """tOF of each pair of neighboring frames: the distance of the flow of sr to that of gt.

    Flows are Farneback's, between grayscale frames, with TecoGAN's settings.

    Args:
        sr, gt: (t, h, w, 3) RGB, uint8, or float in [0, 1], which is rounded to 8 bits.

    Returns:
        (t - 1,) float64 >= 0: the mean distance of the two flows over the frame, pixels.

    Raises:
        ImportError: OpenCV is not installed.
        ValueError: different sizes, or fewer than two frames.

    Source: Chu et al., "Learning temporal coherence via self-supervision for GAN-based video
        generation", section 4; whole frames and all pairs, as TecoGAN-PyTorch's compute_tOF.
    """
    check_clips(sr, gt)
    if sr.ndim != 4 or len(sr) < 2:
        raise ValueError(
            f"frames have shape {sr.shape}; tOF expects (t, h, w, 3) with at least two frames"
        )
    pairs = zip(_flows(sr), _flows(gt), strict=True)
    return np.array([np.linalg.norm(x - y, axis=-1).mean(dtype=np.float64) for x, y in pairs])


def _flows(frames: np.ndarray) -> Iterator[np.ndarray]:
    """Flows (h, w, 2) float32 from each frame of (t, h, w, 3) to the next one, pixels."""
    return itertools.starmap(farneback, itertools.pairwise(frames))


def farneback(now: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Farneback's flow (h, w, 2) float32 from a frame (h, w, 3) to another one, pixels."""
    try:
        import cv2
    except ImportError as error:
        raise ImportError("motion needs OpenCV: pip install 'jaxvsr[metrics]'") from error
    first, second = (
        cv2.cvtColor(convert(frame, "rgb"), cv2.COLOR_RGB2GRAY) for frame in (now, then)
    )
    return cv2.calcOpticalFlowFarneback(
        first,
        second,
        np.empty((*first.shape, 2), np.float32),
        pyr_scale=0.5,
        levels=3,
        winsize=15,
        iterations=3,
        poly_n=5,
        poly_sigma=1.2,
        flags=0,
    )
