"""What happens to a sample's frames, the same for all of them: flips, transpose, mirror."""

import numpy as np


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


def contiguous(frames: np.ndarray) -> np.ndarray:
    """Copies frames (t, h, w, c) that lie in whatever order, a channel at a time.

    NumPy itself would copy pixel by pixel where the channels lie apart, in 2 to 4 times the time.
    """
    out = np.empty(frames.shape, frames.dtype)
    for channel in range(frames.shape[-1]):
        out[..., channel] = frames[..., channel]
    return out
