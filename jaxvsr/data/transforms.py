"""What happens to a sample's frames, the same for all of them: crop, flips, transpose, mirror."""

import numpy as np


def crop(frames: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    """Cuts a square out of frames (t, h, w, c)."""
    return frames[:, top : top + size, left : left + size]


def augment(frames: np.ndarray, hflip: bool, vflip: bool, transpose: bool) -> np.ndarray:
    """Flips left and right, then up and down, then swaps rows and columns of (t, h, w, c).

    Source: BasicSR's `augment`, the order of every published recipe.
    """
    if hflip:
        frames = frames[:, :, ::-1]
    if vflip:
        frames = frames[:, ::-1]
    return frames.swapaxes(1, 2) if transpose else frames


def mirror(frames: np.ndarray) -> np.ndarray:
    """Appends the reversed clip: (t, h, w, c) -> (2t, h, w, c). Vimeo-90K's recipe."""
    return np.concatenate([frames, frames[::-1]])
