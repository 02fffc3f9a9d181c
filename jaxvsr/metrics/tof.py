"""Temporal consistency as the difference of optical flows."""

import itertools
from collections.abc import Iterator

import numpy as np

from jaxvsr.metrics.color import convert
from jaxvsr.metrics.threads import check


def tof(sr: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """tOF of each pair of neighbouring frames: how far sr moves from where gt moves.

    The flow is Farneback's, between the grey frames, with the settings of TecoGAN.

    Args:
        sr, gt: (t, h, w, 3) RGB, uint8, or float in [0, 1], which is rounded to 8 bits.

    Returns:
        (t - 1,) float64 >= 0: the mean over the frame of the distance of the two flows, pixels.

    Raises:
        ImportError: OpenCV is not installed.
        ValueError: sizes that differ, or not a clip of two frames or more.

    Source: Chu et al., "Learning temporal coherence via self-supervision for GAN-based video
        generation", section 4; whole frames and all pairs, as TecoGAN-PyTorch's compute_tOF.
    """
    check(sr, gt)
    if sr.ndim != 4 or len(sr) < 2:
        raise ValueError(
            f"tOF needs clips (t, h, w, 3) of two frames or more, got shape {sr.shape}"
        )
    pairs = zip(_flows(sr), _flows(gt), strict=True)
    return np.array([np.linalg.norm(x - y, axis=-1).mean(dtype=np.float64) for x, y in pairs])


def _flows(frames: np.ndarray) -> Iterator[np.ndarray]:
    """The flow (h, w, 2) float32 from each frame of (t, h, w, 3) to the next, pixels."""
    try:
        import cv2
    except ImportError as error:
        raise ImportError("tOF needs OpenCV: pip install 'jaxvsr[metrics]'") from error
    grey = (cv2.cvtColor(convert(frame, "rgb"), cv2.COLOR_RGB2GRAY) for frame in frames)
    for now, then in itertools.pairwise(grey):
        yield cv2.calcOpticalFlowFarneback(
            now,
            then,
            np.empty((*now.shape, 2), np.float32),
            pyr_scale=0.5,
            levels=3,
            winsize=15,
            iterations=3,
            poly_n=5,
            poly_sigma=1.2,
            flags=0,
        )
