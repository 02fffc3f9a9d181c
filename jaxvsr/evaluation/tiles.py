"""Splits long or large clips into overlapping tiles and merges their outputs."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Triple = tuple[int, int, int]


def check_tiles(tile: Sequence[int], overlap: Sequence[int]) -> None:
    """Raises ValueError unless tiles of this size and overlap (t, h, w) cover a clip."""
    if len(tile) != 3 or len(overlap) != 3 or min(*tile, *overlap) < 0:
        raise ValueError(
            f"a tile {tuple(tile)} and an overlap {tuple(overlap)} must be three numbers each: "
            "frames, height and width, none negative"
        )
    for side, shared, name in zip(tile, overlap, ("frames", "height", "width"), strict=True):
        if side and shared >= side:
            raise ValueError(
                f"the overlap of tiles in {name}, {shared}, must be smaller than the tile, {side}"
            )


def starts(size: int, tile: int, overlap: int) -> list[int]:
    """Returns the first index of each tile on an axis; the last tile ends with the axis."""
    if tile >= size:
        return [0]
    return [*range(0, size - tile, tile - overlap), size - tile]


def mirror_ends(lq: np.ndarray, multiple: Sequence[int]) -> np.ndarray:
    """Pads a clip to multiples by mirroring its last frames, rows and columns.

    Args:
        lq: (t, h, w, c).
        multiple: of frames, height and width.

    Returns:
        (t', h', w', c).

    Source: the test scripts of VRT and RVRT (Liang et al., 2022).
    """
    ends = [(0, -size % n) for size, n in zip(lq.shape, multiple, strict=False)]
    return np.pad(lq, [*ends, (0, 0)], mode="symmetric")


def crop_ends(x: Any, padded: Sequence[int], size: Sequence[int]) -> Any:
    """Crops the padding of `mirror_ends` from the output of a network.

    Args:
        x: (..., t', s*h', s*w', c) of NumPy or JAX, of any scale s; it may have more rows.
        padded: (t', h', w', ...) of the network's input.
        size: (t, h, w, ...) of the clip.

    Returns:
        (..., t, s*h, s*w, c).
    """
    (t, h, w), scale = size[:3], x.shape[-2] // padded[2]
    return x[..., :t, : scale * h, : scale * w, :]


def by_tiles(
    function: Callable[[list[np.ndarray]], list[np.ndarray]],
    lq: np.ndarray,
    tile: Triple,
    overlap: Triple,
    at_once: int = 1,
    done: Callable[[float], None] = lambda fraction: None,
) -> list[np.ndarray]:
    """Applies a function to the tiles of a clip and averages outputs where tiles overlap.

    In space, a tile's first overlap//2 and last ceil(overlap/2) output rows and columns are left
    out beside a neighboring tile, since the network has the least context there.

    Args:
        function: maps a list of tiles to arrays (tiles, t, s*h, s*w, c), each of any scale s.
        lq: (t, h, w, 3).
        tile: frames, height and width of a tile; 0, or more than there are: all.
        overlap: of neighboring tiles, likewise.
        at_once: largest number of tiles in a call of the function.
        done: called with the fraction of tiles that are done.

    Returns:
        For each array of the function: (t, s*h, s*w, c) float32.

    Source: the test scripts of VRT and RVRT (Liang et al., 2022).
    """
    size = lq.shape[:3]
    side = [min(want or whole, whole) for want, whole in zip(tile, size, strict=True)]
    axes = [starts(*numbers) for numbers in zip(size, side, overlap, strict=True)]
    places = list(itertools.product(*(range(len(axis)) for axis in axes)))
    sums: list[np.ndarray] = []
    for at in range(0, len(places), at_once):
        group = places[at : at + at_once]
        outputs = function([lq[_window(axes, place, side, 1)] for place in group])
        scales = [output.shape[2] // side[1] for output in outputs]
        if not sums:
            shapes = [(size[0], size[1] * s, size[2] * s) for s in scales]
            sums = [
                np.zeros((*shape, output.shape[-1]), np.float32)
                for shape, output in zip(shapes, outputs, strict=True)
            ]
        for total, output, s in zip(sums, outputs, scales, strict=True):
            for place, piece in zip(group, output, strict=False):
                rows, columns = (
                    _kept(side[i] * s, place[i] > 0, place[i] < len(axes[i]) - 1, overlap[i])
                    for i in (1, 2)
                )
                total[_window(axes, place, side, s)] += (
                    piece * rows[:, None, None] * columns[:, None]
                )
        done(min(at + at_once, len(places)) / len(places))
    for total in sums:
        s = total.shape[1] // size[1]
        time = _times_kept(axes[0], size[0], side[0], 0, 1)
        rows, columns = (_times_kept(axes[i], size[i], side[i], overlap[i], s) for i in (1, 2))
        total /= time[:, None, None, None] * rows[:, None, None] * columns[:, None]
    return sums


def _window(
    axes: list[list[int]], place: Sequence[int], tile: Sequence[int], scale: int
) -> tuple[slice, ...]:
    """Returns the slices of a tile in a clip whose frames are `scale` times as large."""
    scales = (1, scale, scale)
    return tuple(
        slice(axis[i] * s, (axis[i] + side) * s)
        for axis, i, side, s in zip(axes, place, tile, scales, strict=True)
    )


def _kept(length: int, before: bool, after: bool, overlap: int) -> np.ndarray:
    """Weights of a tile's outputs on an axis; `before`, `after`: whether it has neighbors."""
    weight = np.ones(length, np.float32)
    if before:
        weight[: overlap // 2] = 0
    if after:
        weight[length - (overlap + 1) // 2 :] = 0
    return weight


def _times_kept(axis: list[int], size: int, tile: int, overlap: int, scale: int) -> np.ndarray:
    """Counts the tiles that each output on an axis is the mean of."""
    total = np.zeros(size * scale, np.float32)
    for i, start in enumerate(axis):
        kept = _kept(tile * scale, i > 0, i < len(axis) - 1, overlap)
        total[start * scale : (start + tile) * scale] += kept
    return total
