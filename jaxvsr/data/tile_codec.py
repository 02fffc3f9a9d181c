"""How frames are cut into tiles and coded, so that a small window of a clip is read fast.

A tile is a square of some frames in succession, at the border less than a square. It is stored as
differences, which ArrayRecord's own compression (zstd) halves as PNG would, and which a window is
made of by additions alone: red and blue less green, then each row less the row above it, modulo
256, colour planes apart.
"""

from collections.abc import Iterator

import numpy as np


def cut(frames: np.ndarray, side: int) -> Iterator[np.ndarray]:
    """Cuts frames (t, h, w, c) into tiles (t, <= side, <= side, c), rows of tiles from the top."""
    for top in range(0, frames.shape[1], side):
        for left in range(0, frames.shape[2], side):
            yield frames[:, top : top + side, left : left + side]


def count(length: int, side: int) -> int:
    """How many tiles of a side cover a length."""
    return -(-length // side)


def encode(tile: np.ndarray) -> np.ndarray:
    """Pixels (t, h, w, 3) uint8 RGB -> differences (3, t, h, w) uint8."""
    planes = np.ascontiguousarray(np.moveaxis(tile, -1, 0))
    planes[::2] -= planes[1]
    planes[:, :, 1:] -= planes[:, :, :-1].copy()
    return planes


def decode(differences: np.ndarray, side: int, top: int, height: int) -> np.ndarray:
    """Rows of pixels from the differences of tiles that were put side by side.

    Args:
        differences: (3, t, h, w) uint8, contiguous, h a multiple of side; is overwritten.
        side: of the tiles.
        top: first row that is wanted.
        height: how many rows are.

    Returns:
        (t, height, w, 3) uint8 RGB, a view whose colour planes lie apart.
    """
    tiles = differences.reshape(*differences.shape[:2], -1, side, differences.shape[-1])
    for row in range(1, min(side, top + height)):
        tiles[:, :, :, row] += tiles[:, :, :, row - 1]
    planes = differences[:, :, top : top + height]
    planes[::2] += planes[1]
    return np.moveaxis(planes, 0, -1)
