"""Tiles of a frame that overlap: cut out, and put together so that no seam is seen."""

import dataclasses
import functools
import itertools
import operator
from typing import Any

import jax
import numpy as np

from jaxvsr.evaluation import tiles
from jaxvsr.upscaling.chunks import mix


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where the tiles of a frame lie.

    Attributes:
        size: (h, w) of the frame.
        tile: (h, w) of a tile; all are of this size.
        overlap: of neighbouring tiles, or more at the last.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    overlap: int

    @functools.cached_property
    def axes(self) -> list[list[int]]:
        """The rows and the columns at which tiles begin."""
        return [
            tiles.starts(size, tile, min(self.overlap, tile - 1))
            for size, tile in zip(self.size, self.tile, strict=True)
        ]

    @functools.cached_property
    def places(self) -> list[tuple[int, int]]:
        """The numbers of each tile's row and column of tiles."""
        rows, columns = (range(len(axis)) for axis in self.axes)
        return list(itertools.product(rows, columns))

    def window(self, i: int, scale: int = 1) -> tuple[slice, slice]:
        """The rows and columns of tile i in a frame that is `scale` times as large."""
        row, column = (
            slice(axis[j] * scale, (axis[j] + side) * scale)
            for axis, j, side in zip(self.axes, self.places[i], self.tile, strict=True)
        )
        return row, column

    def put(self, whole: np.ndarray, tile: np.ndarray, i: int, scale: int) -> np.ndarray:
        """Lays tile i over those before it, going over to it in the middle of what they share.

        Args:
            whole: (t, scale*h, scale*w, c) integers, with the tiles before i; empty before the
                first.
            tile: (t, ..., c).
            i: its number.
            scale: of these against the grid's numbers.

        Returns:
            `whole`, changed.
        """
        if len(self.places) == 1:
            return tile
        if not whole.size:
            height, width = (side * scale for side in self.size)
            whole = np.empty((len(tile), height, width, tile.shape[-1]), tile.dtype)
        target = whole[:, *self.window(i, scale)]
        rows, columns = (self._rise(axis, i, scale) for axis in (0, 1))
        weight = rows[:, None, None] * columns[:, None]
        top, left = np.argmax(rows == 1), np.argmax(columns == 1)
        for part in (np.s_[:top], np.s_[top:, :left]):
            target[:, *_both(part)] = mix(
                target[:, *_both(part)], tile[:, *_both(part)], weight[part]
            )
        target[:, top:, left:] = tile[:, top:, left:]
        return whole

    def cut(self, tree: Any) -> list[Any]:
        """The tiles of arrays (b, h, w, ...)."""
        return [
            jax.tree.map(operator.itemgetter((slice(None), *self.window(i))), tree)
            for i in range(len(self.places))
        ]

    def merge(self, trees: list[Any]) -> Any:
        """Arrays (b, h, w, ...) of tiles, which count from the middle of what they share."""
        if len(self.places) == 1:
            return trees[0]
        first = jax.tree.map(
            lambda x: np.zeros((len(x), *self.size, *x.shape[3:]), x.dtype), trees[0]
        )
        for i, tree in enumerate(trees):
            top, left = (int(np.argmax(self._rise(axis, i, 1) >= 0.5)) for axis in (0, 1))
            rows, columns = self.window(i)
            at = (slice(rows.start + top, rows.stop), slice(columns.start + left, columns.stop))
            for whole, tile in zip(jax.tree.leaves(first), jax.tree.leaves(tree), strict=True):
                whole[:, *at] = tile[:, top:, left:]
        return first

    def _rise(self, axis: int, i: int, scale: int) -> np.ndarray:
        """The weight of tile i along an axis: from 0 to 1 in what it shares with the one before."""
        starts, j, side = self.axes[axis], self.places[i][axis], self.tile[axis]
        weight = np.ones(side * scale, np.float32)
        if j:
            shared = (starts[j - 1] + side - starts[j]) * scale
            place = np.arange(shared) - (shared - 1) / 2
            weight[:shared] = np.clip(2 * place / max(shared, 1) + 0.5, 0, 1)
        return weight


def _both(part: Any) -> tuple:
    return part if isinstance(part, tuple) else (part,)
