"""Windows of a clip: cut out at a cyclic shift, put together again, and which tokens may meet."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr.distributed import spatial_sharding

Size = tuple[int, int, int]  # (t, h, w)


def fit(size: Size, window_size: Size, shifted: bool) -> tuple[Size, Size]:
    """The windows of a clip that may be smaller than they are.

    Args:
        size: (t, h, w) of the clip.
        window_size: (wt, wh, ww).
        shifted: whether windows lie half a window off the origin.

    Returns:
        The window, which on an axis is no larger than the clip, and the shift, which is zero
        where one window is enough.

    Source: Liu et al., "Video Swin Transformer", the official code.
    """
    fitted = [
        (min(side, window), window // 2 if shifted and side > window else 0)
        for side, window in zip(size, window_size, strict=True)
    ]
    (wt, st), (wh, sh), (ww, sw) = fitted
    return (wt, wh, ww), (st, sh, sw)


def partition(x: jax.Array, window_size: Size, shift_size: Size = (0, 0, 0)) -> jax.Array:
    """Zero-pads a clip at its ends to whole windows, rolls it back by the shift, and cuts it.

    Of frames that are divided among devices each holds as many rows of windows: at the end there
    may be windows of zeros.

    Args:
        x: (b, t, h, w, c).
        window_size: (wt, wh, ww).
        shift_size: (t, h, w), how far from the origin the windows start.

    Returns:
        (b, n, wt*wh*ww, c): windows in h, t, w order and, inside a window, tokens in t, h, w order.

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
    windows: jax.Array, size: Size, window_size: Size, shift_size: Size = (0, 0, 0)
) -> jax.Array:
    """Undoes `partition`: (b, n, wt*wh*ww, c) -> (b, *size, c), the padding cropped off."""
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
    """How many windows of a clip there are that are not padding alone."""
    return math.prod(-(-side // window) for side, window in zip(size, window_size, strict=True))


def shift_regions(size: Size, window_size: Size, shift_size: Size) -> np.ndarray:
    """Tells which tokens of a rolled window were neighbours before the roll.

    The regions are a few bytes a token; the (n, tokens, tokens) mask that they stand for is made
    where it is used, so that no large constant is compiled into a program.

    Args:
        size: (t, h, w) of the clip, before padding.
        window_size: (wt, wh, ww).
        shift_size: (t, h, w); a shift by a whole window rolls nothing apart.

    Returns:
        (n, wt*wh*ww) int32: two tokens of a window may attend to each other where these agree.

    Source: Liu et al., "Swin Transformer", section 3.2, figure 4.
    """
    return _with_empty(_shift_regions(size, window_size, shift_size), size, window_size)


def inside_frame(size: Size, window_size: Size, shift_size: Size) -> np.ndarray:
    """Tells which tokens are a clip's own, and not padding.

    Args:
        size: (t, h, w) of the clip, before padding.
        window_size, shift_size: as `partition`'s.

    Returns:
        (n, wt*wh*ww) bool.
    """
    return _with_empty(_inside_frame(size, window_size, shift_size), size, window_size)


@functools.lru_cache(maxsize=64)
def _shift_regions(size: Size, window_size: Size, shift_size: Size) -> np.ndarray:
    padded = [-(-side // window) * window for side, window in zip(size, window_size, strict=True)]
    labels = np.zeros(padded, np.int32)
    for axis, (side, window, shift) in enumerate(zip(padded, window_size, shift_size, strict=True)):
        position = np.arange(side)
        if shift % window:
            label = (position >= side - window).astype(np.int32) + (position >= side - shift)
            labels = 3 * labels + label.reshape([-1 if a == axis else 1 for a in range(3)])
    return _cut(labels, window_size)


@functools.lru_cache(maxsize=64)
def _inside_frame(size: Size, window_size: Size, shift_size: Size) -> np.ndarray:
    ends = [(0, -side % window) for side, window in zip(size, window_size, strict=True)]
    inside = np.pad(np.ones(size, bool), ends)
    return _cut(np.roll(inside, [-shift for shift in shift_size], (0, 1, 2)), window_size)


def _cut(x: np.ndarray, window_size: Size) -> np.ndarray:
    """(t, h, w), whole windows -> (n, wt*wh*ww), as `partition` has them."""
    (t, h, w), (wt, wh, ww) = x.shape, window_size
    x = x.reshape(t // wt, wt, h // wh, wh, w // ww, ww)
    return x.transpose(2, 0, 4, 1, 3, 5).reshape(-1, wt * wh * ww)


def _rows(height: int, window: int, shift: int) -> np.ndarray:
    """Which row of a frame each row of its windows is, of as many on each device; -1: none."""
    rows = np.roll(np.pad(np.arange(height), (0, -height % window), constant_values=-1), -shift)
    each = window * (spatial_sharding.devices() if spatial_sharding.divides(height) else 1)
    return np.pad(rows, (0, -len(rows) % each), constant_values=-1)


def _with_empty(windows: np.ndarray, size: Size, window_size: Size) -> np.ndarray:
    """Adds to what is of windows (n, ...) the same of those that `partition` adds: nothing."""
    rows = len(_rows(size[1], window_size[1], 0))
    total = count(size, window_size) * rows // (-(-size[1] // window_size[1]) * window_size[1])
    return np.pad(windows, ((0, total - len(windows)), (0, 0)))
