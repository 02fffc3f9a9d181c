"""Partition of a clip into cyclically shifted windows, its inverse, and attention regions."""

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, Shaped

from jaxvsr.distributed import spatial_sharding

Size = tuple[int, int, int]  # (t, h, w)


class WindowKinds(NamedTuple):
    """The distinct windows of a partition, by padding and regions.

    Attributes:
        kind: of each window, an index into the others.
        inside: the tokens that are not padding.
        regions: tokens of a window may attend to each other if their labels agree.
    """

    kind: Int32[np.ndarray, " n"]
    inside: Bool[np.ndarray, "kinds tokens"]
    regions: Int32[np.ndarray, "kinds tokens"]


def fit(size: Size, window_size: Size, shifted: bool) -> tuple[Size, Size]:
    """Reduces window and shift to the size of a clip.

    Args:
        size: (t, h, w) of the clip.
        window_size: (wt, wh, ww).
        shifted: whether windows are shifted by half their size.

    Returns:
        The window, no larger than the clip, and the shift, zero along axes of one window.

    Source: Liu et al., "Video Swin Transformer", the official code.
    """
    fitted = [
        (min(side, window), window // 2 if shifted and side > window else 0)
        for side, window in zip(size, window_size, strict=True)
    ]
    (wt, st), (wh, sh), (ww, sw) = fitted
    return (wt, wh, ww), (st, sh, sw)


def partition(
    x: Shaped[Array, "b t h w c"], window_size: Size, shift_size: Size = (0, 0, 0)
) -> Shaped[Array, "b n tokens c"]:
    """Zero-pads a clip to whole windows, rolls it back by the shift, and partitions it.

    If rows are sharded, each device holds equally many rows of windows, and there may be windows
    of zeros at the end.

    Args:
        x: (b, t, h, w, c).
        window_size: (wt, wh, ww).
        shift_size: (t, h, w) offset of the windows from the origin.

    Returns:
        (b, n, wt*wh*ww, c): windows in (h, t, w) order, tokens of a window in (t, h, w) order.

    Source: Liu et al., "Video Swin Transformer", section 3.2.
    """
    wt, wh, ww = window_size
    ends = [-size % window for size, window in zip(x.shape[1:4], window_size, strict=True)]
    if spatial_sharding.divides(x.shape[2]):
        x = spatial_sharding.take(x, _rows(x.shape[2], wh, shift_size[1]), axis=2)
        ends[1], shift_size = 0, (shift_size[0], 0, shift_size[2])
    x = jnp.pad(x, [(0, 0), *((0, end) for end in ends), (0, 0)])
    if any(shift_size):
        x = jnp.roll(x, [-shift for shift in shift_size], axis=(1, 2, 3))
    b, t, h, w, c = x.shape
    x = x.reshape(b, t // wt, wt, h // wh, wh, w // ww, ww, c)
    return x.transpose(0, 3, 1, 5, 2, 4, 6, 7).reshape(b, -1, wt * wh * ww, c)


def merge(
    windows: Shaped[Array, "b n tokens c"],
    size: Size,
    window_size: Size,
    shift_size: Size = (0, 0, 0),
) -> Shaped[Array, "b {size[0]} {size[1]} {size[2]} c"]:
    """Inverse of `partition`: (b, n, wt*wh*ww, c) -> (b, *size, c), without the padding."""
    b, _, _, c = windows.shape
    wt, wh, ww = window_size
    t, w = -(-size[0] // wt), -(-size[2] // ww)
    x = windows.reshape(b, -1, t, w, wt, wh, ww, c).transpose(0, 2, 4, 1, 5, 3, 6, 7)
    x = x.reshape(b, t * wt, -1, w * ww, c)
    if spatial_sharding.divides(size[1]):
        x = spatial_sharding.take(
            x, np.argsort(_rows(size[1], wh, shift_size[1]))[-size[1] :], axis=2
        )
        shift_size = shift_size[0], 0, shift_size[2]
    if any(shift_size):
        x = jnp.roll(x, shift_size, axis=(1, 2, 3))
    return x[:, : size[0], : size[1], : size[2]]


def count(size: Size, window_size: Size) -> int:
    """Number of windows of a clip, without those that hold padding alone."""
    return math.prod(-(-side // window) for side, window in zip(size, window_size, strict=True))


def shift_regions(size: Size, window_size: Size, shift_size: Size) -> Int32[np.ndarray, "n tokens"]:
    """Labels tokens of rolled windows by the contiguous region that they come from.

    Regions are small. The (n, tokens, tokens) mask is made from them inside the program, which
    then contains no large constant.

    Args:
        size: (t, h, w) of the clip, before padding.
        window_size: (wt, wh, ww).
        shift_size: (t, h, w); a shift by a whole window separates nothing.

    Returns:
        (n, wt*wh*ww) int32: tokens of a window may attend to each other if their labels agree.

    Source: Liu et al., "Swin Transformer", section 3.2, figure 4.
    """
    return _with_empty(_shift_regions(size, window_size, shift_size), size, window_size)


def inside_frame(size: Size, window_size: Size, shift_size: Size) -> Bool[np.ndarray, "n tokens"]:
    """Marks the tokens of windows that are not padding.

    Args:
        size: (t, h, w) of the clip, before padding.
        window_size, shift_size: as in `partition`.

    Returns:
        (n, wt*wh*ww) bool.
    """
    return _with_empty(_inside_frame(size, window_size, shift_size), size, window_size)


def window_kinds(size: Size, window_size: Size, shift_size: Size) -> WindowKinds:
    """Finds the distinct windows of a partition: few, since only those at borders differ.

    Args:
        size: (t, h, w) of the clip, before padding.
        window_size, shift_size: as in `partition`.
    """
    inside = inside_frame(size, window_size, shift_size)
    regions = shift_regions(size, window_size, shift_size)
    both = np.concatenate([inside, regions], axis=1)
    _, first, kind = np.unique(both, axis=0, return_index=True, return_inverse=True)
    return WindowKinds(kind.reshape(-1).astype(np.int32), inside[first], regions[first])


@functools.lru_cache(maxsize=64)
def _shift_regions(size: Size, window_size: Size, shift_size: Size) -> np.ndarray:
    padded = [-(-side // window) * window for side, window in zip(size, window_size, strict=True)]
    labels = np.zeros(padded, np.int32)
    for axis, (side, window, shift) in enumerate(zip(padded, window_size, shift_size, strict=True)):
        position = np.arange(side)
        if shift % window:
            label = (position >= side - window).astype(np.int32) + (position >= side - shift)
            labels = 3 * labels + label.reshape([-1 if a == axis else 1 for a in range(3)])
    return _partition(labels, window_size)


@functools.lru_cache(maxsize=64)
def _inside_frame(size: Size, window_size: Size, shift_size: Size) -> np.ndarray:
    ends = [(0, -side % window) for side, window in zip(size, window_size, strict=True)]
    inside = np.pad(np.ones(size, bool), ends)
    return _partition(np.roll(inside, [-shift for shift in shift_size], (0, 1, 2)), window_size)


def _partition(x: np.ndarray, window_size: Size) -> np.ndarray:
    """`partition` of an array (t, h, w) of whole windows: (n, wt*wh*ww)."""
    (t, h, w), (wt, wh, ww) = x.shape, window_size
    x = x.reshape(t // wt, wt, h // wh, wh, w // ww, ww)
    return x.transpose(2, 0, 4, 1, 3, 5).reshape(-1, wt * wh * ww)


def _rows(height: int, window: int, shift: int) -> np.ndarray:
    """Frame row of each row of the windows, equally many per device; -1: a row of zeros."""
    rows = np.roll(np.pad(np.arange(height), (0, -height % window), constant_values=-1), -shift)
    each = window * (spatial_sharding.devices() if spatial_sharding.divides(height) else 1)
    return np.pad(rows, (0, -len(rows) % each), constant_values=-1)


def _with_empty(windows: np.ndarray, size: Size, window_size: Size) -> np.ndarray:
    """Pads windows (n, ...) with zeros for the windows that `partition` adds."""
    rows = len(_rows(size[1], window_size[1], 0))
    total = count(size, window_size) * rows // (-(-size[1] // window_size[1]) * window_size[1])
    return np.pad(windows, ((0, total - len(windows)), (0, 0)))
