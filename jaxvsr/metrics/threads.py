"""Scores of single frames, computed in parallel threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float64, Shaped

THREADS = 8  # each holds the maps of one frame in memory


def check_clips(*clips: Shaped[np.ndarray, "*n h w c"]) -> None:
    """Raises ValueError unless all clips are frames (..., h, w, c) of the same size."""
    shapes = [clip.shape for clip in clips]
    if len(set(shapes)) > 1:
        raise ValueError(f"sr {shapes[0]} and gt {shapes[1]} differ in size")
    if len(shapes[0]) < 3:
        raise ValueError(f"frames have shape {shapes[0]}; expected (..., h, w, 3)")


def by_frame(
    score: Callable[..., float], *clips: Shaped[np.ndarray, "*n h w c"]
) -> Float64[np.ndarray, "*n"]:
    """Scores each frame independently, in one thread per core, at most THREADS.

    Only the frames being scored are held in float64, so that memory does not grow with the clip.

    Args:
        score: a function of one frame (h, w, c) of each clip; threads run in parallel in NumPy.
        *clips: (..., h, w, c): sr and gt, or sr alone for a metric without a reference.

    Returns:
        (...) float64.

    Raises:
        ValueError: from `check_clips` or from the score.
    """
    check_clips(*clips)
    frames = (clip.reshape(-1, *clip.shape[-3:]) for clip in clips)
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        scores = list(pool.map(score, *frames))
    return np.array(scores, np.float64).reshape(clips[0].shape[:-3])
