"""Overlapping tiles of a frame: their places, and blending them without visible seams."""

import dataclasses
import functools
import itertools
import operator
from typing import Any

import jax
import numpy as np

from jaxvsr.evaluation import tiles
from jaxvsr.upscaling.chunks import blend


@dataclasses.dataclass(frozen=True)
class TileGrid:
    """The places of the tiles of a frame.

    Attributes:
        size: (h, w) of the frame.
        tile: (h, w) of every tile.
        overlap: of neighboring tiles, rows and columns; the last tiles may overlap by more.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    overlap: int

    @functools.cached_property
    def starts(self) -> list[list[int]]:
        """The rows and the columns at which tiles start."""
        return [
            tiles.starts(size, tile, min(self.overlap, tile - 1))
            for size, tile in zip(self.size, self.tile, strict=True)
        ]

    @functools.cached_property
    def places(self) -> list[tuple[int, int]]:
        """For each tile, the indices of its row and its column of tiles."""
        rows, columns = (range(len(axis)) for axis in self.starts)
        return list(itertools.product(rows, columns))

    def window(self, i: int, scale: int = 1) -> tuple[slice, slice]:
        """Returns the rows and columns of tile i in a frame that is `scale` times as large."""
        row, column = (
            slice(axis[j] * scale, (axis[j] + side) * scale)
            for axis, j, side in zip(self.starts, self.places[i], self.tile, strict=True)
        )
        return row, column

    def paste(self, canvas: np.ndarray, tile: np.ndarray, i: int, scale: int) -> np.ndarray:
        """Pastes tile i over the tiles before it; they fade into each other where they overlap.

        Args:
            canvas: (t, scale*h, scale*w, c) integers with the tiles before i; empty before tile 0.
            tile: (t, scale*tile_h, scale*tile_w, c).
            i: index of the tile.
            scale: of the canvas over the grid.

        Returns:
            The changed canvas.
        """
        if len(self.places) == 1:
            return tile
        if not canvas.size:
            height, width = (side * scale for side in self.size)
            canvas = np.empty((len(tile), height, width, tile.shape[-1]), tile.dtype)
        target = canvas[:, *self.window(i, scale)]
        rows, columns = (self._fade_in(axis, i, scale) for axis in (0, 1))
        weight = rows[:, None, None] * columns[:, None]
        top, left = np.argmax(rows == 1), np.argmax(columns == 1)
        for part in (np.s_[:top], np.s_[top:, :left]):
            target[:, *_as_tuple(part)] = blend(
                target[:, *_as_tuple(part)], tile[:, *_as_tuple(part)], weight[part]
            )
        target[:, top:, left:] = tile[:, top:, left:]
        return canvas

    def split(self, tree: Any) -> list[Any]:
        """Splits the arrays (b, h, w, ...) of a tree into tiles."""
        return [
            jax.tree.map(operator.itemgetter((slice(None), *self.window(i))), tree)
            for i in range(len(self.places))
        ]

    def merge(self, trees: list[Any]) -> Any:
        """Merges the tiles of `split`; each is used from the middle of its overlaps on."""
        if len(self.places) == 1:
            return trees[0]
        merged = jax.tree.map(
            lambda x: np.zeros((len(x), *self.size, *x.shape[3:]), x.dtype), trees[0]
        )
        for i, tree in enumerate(trees):
            top, left = (int(np.argmax(self._fade_in(axis, i, 1) >= 0.5)) for axis in (0, 1))
            rows, columns = self.window(i)
            at = (slice(rows.start + top, rows.stop), slice(columns.start + left, columns.stop))
            for whole, tile in zip(jax.tree.leaves(merged), jax.tree.leaves(tree), strict=True):
                whole[:, *at] = tile[:, top:, left:]
        return merged

    def _fade_in(self, axis: int, i: int, scale: int) -> np.ndarray:
        """Weight of tile i along an axis; it rises from 0 to 1 where the tile before overlaps."""
        starts, j, side = self.starts[axis], self.places[i][axis], self.tile[axis]
        weight = np.ones(side * scale, np.float32)
        if j:
            shared = (starts[j - 1] + side - starts[j]) * scale
            place = np.arange(shared) - (shared - 1) / 2
            weight[:shared] = np.clip(2 * place / max(shared, 1) + 0.5, 0, 1)
        return weight


def _as_tuple(part: Any) -> tuple:
    return part if isinstance(part, tuple) else (part,)
