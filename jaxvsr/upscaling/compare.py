"""Frames that show sr beside bicubic interpolation."""

import functools
import pathlib

import jax
import numpy as np

from jaxvsr.data.degradations import device
from jaxvsr.evaluation import pictures
from jaxvsr.pixels import to_8_bits, to_integers
from jaxvsr.video.images import write_image

KINDS = ("side", "split")
LINE = 2  # width in pixels of the white line between the halves


@functools.partial(jax.jit, static_argnames=("scale", "dtype"))
def _bicubic(lq: jax.Array, scale: int, dtype: str) -> jax.Array:
    x = lq.astype(np.float32) / np.iinfo(lq.dtype).max
    return to_integers(device.imresize(x, scale), dtype)


def bicubic(lq: np.ndarray, scale: int, dtype: np.dtype) -> np.ndarray:
    """Upsamples a frame by bicubic interpolation.

    Args:
        lq: (h, w, 3) uint8 or uint16.
        scale: integer factor.
        dtype: of the result, uint8 or uint16.

    Returns:
        (scale*h, scale*w, 3).
    """
    return np.asarray(_bicubic(lq, scale, np.dtype(dtype).name))


def compare(kind: str, lq: np.ndarray, sr: np.ndarray) -> np.ndarray:
    """Joins bicubic interpolation on the left and sr on the right, with a white line between.

    Args:
        kind: "side" puts the two whole frames side by side; "split" joins the left half of the one
            and the right half of the other.
        lq: (h, w, 3).
        sr: (scale*h, scale*w, 3).

    Returns:
        (scale*h, scale*w, 3), or twice as wide for "side".
    """
    plain = bicubic(lq, len(sr) // len(lq), sr.dtype)
    middle = sr.shape[1] // 2
    if kind == "side":
        both, middle = np.concatenate([plain, sr], axis=1), sr.shape[1]
    else:
        both = np.concatenate([plain[:, :middle], sr[:, middle:]], axis=1)
    both[:, middle - LINE // 2 : middle + LINE // 2] = np.iinfo(sr.dtype).max
    return both


def write_preview(lq: np.ndarray, sr: np.ndarray, path: pathlib.Path) -> pathlib.Path:
    """Writes a frame as an 8-bit PNG, bicubic interpolation beside sr; returns the path."""
    panels = {"bicubic": bicubic(lq, len(sr) // len(lq), sr.dtype), "sr": sr}
    named = {name: to_8_bits(panel) for name, panel in panels.items()}
    return write_image(path, pictures.side_by_side(named))
