"""Scores of single frames, computed in parallel threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float64, Shaped

THREADS = 8  # each holds the maps of one frame in memory


# Floats beyond are no network's overshoots of [0, 1], but values on 0..255 or [-1, 1].
FLOATS = (-0.9, 2.0)


def check_clips(*clips: Shaped[np.ndarray, "*n h w c"]) -> None:
    """Checks the frames that a metric compares.

    Args:
        *clips: (..., h, w, 3), or (..., h, w, 1) of grey, of the same size.

    Raises:
        ValueError: sizes differ, channels are not last, there are no frames, or floats are not
            finite or far outside of [0, 1].
    """
    shapes = [clip.shape for clip in clips]
    if len(set(shapes)) > 1:
        raise ValueError(f"sr {shapes[0]} and gt {shapes[1]} differ in size")
    shape = shapes[0]
    if len(shape) < 3 or shape[-1] not in (1, 3) or 0 in shape:
        moved = len(shape) >= 3 and shape[-3] == 3
        hint = "; move the channels to the last axis" if moved else ""
        raise ValueError(f"frames have shape {shape}; expected (..., h, w, 3){hint}")
    for clip in clips:
        if clip.dtype.kind != "f":
            continue
        low, high = clip.min(), clip.max()
        if not np.isfinite(low + high):
            raise ValueError("frames hold NaN or infinity; expected uint8, or floats in [0, 1]")
        if low < FLOATS[0] or high > FLOATS[1]:
            raise ValueError(
                f"frames hold floats from {low:g} to {high:g}; expected uint8, or floats in [0, 1]"
            )


def by_frame(
    score: Callable[..., float], *clips: Shaped[np.ndarray, "*n h w c"], threads: int = THREADS
) -> Float64[np.ndarray, "*n"]:
    """Scores each frame independently, in one thread per core, at most `threads`.

    Only the frames being scored are held in float64, so that memory does not grow with the clip.

    Args:
        score: a function of one frame (h, w, c) of each clip; threads run in parallel in NumPy.
        *clips: (..., h, w, c): sr and gt, or sr alone for a metric without a reference.
        threads: 1 for a score that uses all cores itself.

    Returns:
        (...) float64.

    Raises:
        ValueError: from `check_clips` or from the score.
    """
    check_clips(*clips)
    frames = (clip.reshape(-1, *clip.shape[-3:]) for clip in clips)
    with ThreadPoolExecutor(min(threads, os.cpu_count() or 1)) as pool:
        scores = list(pool.map(score, *frames))
    return np.array(scores, np.float64).reshape(clips[0].shape[:-3])
