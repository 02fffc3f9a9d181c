"""Splits frames into tiles and encodes them, so that a small window of a clip is read fast.

A tile is a square of consecutive frames, cropped at the border of the frame. It is stored as
differences in separate color planes: red and blue minus green, then each row minus the row above,
modulo 256. The zstd compression of ArrayRecord halves them, as PNG would, and decoding needs only
additions.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Shaped, UInt8


def split_into_tiles(
    frames: Shaped[np.ndarray, "t h w ..."], side: int
) -> Iterator[Shaped[np.ndarray, "t _ _ ..."]]:
    """Splits frames (t, h, w, c) into tiles (t, <= side, <= side, c), row by row."""
    for top in range(0, frames.shape[1], side):
        for left in range(0, frames.shape[2], side):
            yield frames[:, top : top + side, left : left + side]


def count_tiles(length: int, side: int) -> int:
    """Number of tiles that cover a length."""
    return -(-length // side)


def encode(tile: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "3 t h w"]:
    """Encodes pixels (t, h, w, 3) uint8 RGB as differences (3, t, h, w) uint8."""
    planes = np.ascontiguousarray(np.moveaxis(tile, -1, 0))
    planes[::2] -= planes[1]
    planes[:, :, 1:] -= planes[:, :, :-1].copy()
    return planes


def decode(
    differences: UInt8[np.ndarray, "3 t h w"], side: int, top: int, height: int
) -> UInt8[np.ndarray, "t {height} w 3"]:
    """Decodes rows of pixels from the differences of tiles that were joined.

    Args:
        differences: (3, t, h, w) uint8, contiguous, h a multiple of side; overwritten.
        side: height of the tiles.
        top: first row of the result.
        height: number of rows of the result.

    Returns:
        (t, height, w, 3) uint8 RGB, a view with separate color planes.
    """
    tiles = differences.reshape(*differences.shape[:2], -1, side, differences.shape[-1])
    for row in range(1, min(side, top + height)):
        tiles[:, :, :, row] += tiles[:, :, :, row - 1]
    planes = differences[:, :, top : top + height]
    planes[::2] += planes[1]
    return np.moveaxis(planes, 0, -1)
