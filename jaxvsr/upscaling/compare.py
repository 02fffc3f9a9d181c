"""What the network adds, seen beside bicubic enlargement."""

import functools
import pathlib

import jax
import numpy as np

from jaxvsr.evaluation import pictures
from jaxvsr.models.bicubic import Bicubic
from jaxvsr.upscaling.engine import whole
from jaxvsr.video.images import write_png

KINDS = ("side", "split")
LINE = 2  # pixels that part the halves


@functools.cache
def _bicubic(scale: int, dtype: str):
    return jax.jit(functools.partial(whole(Bicubic(scale), np.dtype(dtype)), {}, ()))


def bicubic(lq: np.ndarray, scale: int, dtype: np.dtype) -> np.ndarray:
    """Enlarges a frame.

    Args:
        lq: (h, w, 3) uint8 or uint16.
        scale: factor.
        dtype: of the result, uint8 or uint16.

    Returns:
        (scale*h, scale*w, 3).
    """
    enlarged, _ = _bicubic(scale, np.dtype(dtype).name)(lq[None, None])
    return np.asarray(enlarged)[0, 0]


def compare(kind: str, lq: np.ndarray, sr: np.ndarray) -> np.ndarray:
    """Bicubic on the left, sr on the right, a white line between them.

    Args:
        kind: "side", both whole, one beside the other; "split", the left half of the one and the
            right half of the other.
        lq: (h, w, 3).
        sr: (scale*h, scale*w, 3).

    Returns:
        (scale*h, W, 3), W that of sr, or twice that.
    """
    plain = bicubic(lq, len(sr) // len(lq), sr.dtype)
    middle = sr.shape[1] // 2
    if kind == "side":
        both, middle = np.concatenate([plain, sr], axis=1), sr.shape[1]
    else:
        both = np.concatenate([plain[:, :middle], sr[:, middle:]], axis=1)
    both[:, middle - LINE // 2 : middle + LINE // 2] = np.iinfo(sr.dtype).max
    return both


def preview(lq: np.ndarray, sr: np.ndarray, path: pathlib.Path) -> pathlib.Path:
    """Writes a frame, bicubic beside sr, as a PNG of 8 bits."""
    panels = {"bicubic": bicubic(lq, len(sr) // len(lq), sr.dtype), "sr": sr}
    return write_png(
        pictures.side_by_side({name: to_bytes(panel) for name, panel in panels.items()}), path
    )


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """uint8 as it is, uint16 rounded to 8 bits."""
    return (
        pixels
        if pixels.dtype == np.uint8
        else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    )
