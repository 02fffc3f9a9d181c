"""Frames one by one, several at once."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

THREADS = 8  # each takes the memory of a frame's maps


def check(*clips: np.ndarray) -> None:
    """Raises ValueError unless clips are frames (..., h, w, c) of one size."""
    shapes = [clip.shape for clip in clips]
    if len(set(shapes)) > 1:
        raise ValueError(f"sr {shapes[0]} and gt {shapes[1]} differ in size")
    if len(shapes[0]) < 3:
        raise ValueError(f"frames must be (..., h, w, 3), got shape {shapes[0]}")


def by_frame(score: Callable[..., float], *clips: np.ndarray) -> np.ndarray:
    """Scores each frame by itself, as many at once as there are cores, but at most THREADS.

    Only the frames at work are held in float64: a clip of any length takes the memory of a few.

    Args:
        score: of one frame (h, w, c) of each clip. Threads call it: NumPy's work runs in parallel.
        *clips: (..., h, w, c): sr and gt, or that which is scored without a reference.

    Returns:
        (...) float64.

    Raises:
        ValueError: of `check`, or of the score.
    """
    check(*clips)
    frames = (clip.reshape(-1, *clip.shape[-3:]) for clip in clips)
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        scores = list(pool.map(score, *frames))
    return np.array(scores, np.float64).reshape(clips[0].shape[:-3])
