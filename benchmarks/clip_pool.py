"""Training clips on the device: a ring of uint8 clips that grows as they are rendered.

A batch is cut out of it by the training step itself, so that no pixel waits for the host.
"""

import collections
import functools
import pathlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr.data.degradations import imresize

# In the training of presets "gt" (n, t, H, W, 3) and "lq" (n, v, t, h, w, 3), uint8.
Clips = dict[str, jax.Array]


def read(folder: pathlib.Path, capacity: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields the clips of a folder as they appear, again and again if a pool cannot hold them.

    Args:
        folder: filled by `benchmarks.render_clips`.
        capacity: of the pool.

    Yields:
        The arrays of a clip.
    """
    seen: set[pathlib.Path] = set()
    while True:
        paths = sorted(set(folder.glob("*.npz")) - seen)
        if not paths:
            time.sleep(0.2)
            if len(seen) > capacity:
                seen.clear()
        for path in paths:
            if len(seen) >= capacity:  # replaces what there is: without haste
                time.sleep(0.05)
            with np.load(path) as file:
                clip = dict(file)
            yield clip
            seen.add(path)


def scaled(clip: dict[str, np.ndarray], scale: int) -> dict[str, np.ndarray]:
    """The clip; for another scale than the files' 4, lq is one version, the bicubic reduction."""
    return clip if scale == 4 else clip | {"lq": imresize(clip["gt"], 1 / scale)[None]}


class Pool:
    """A ring of clips, filled by a thread that reads them.

    Attributes:
        clips: on the device.
        added: clips since the start; the oldest are replaced when the ring is full.
    """

    def __init__(self, clips: Iterable[dict[str, np.ndarray]], capacity: int) -> None:
        """Waits for the first clip.

        Args:
            clips: such as of `read`; arrays of the same shapes in all.
            capacity: clips; the arrays must have fewer than 2**31 elements.
        """
        self._queue: queue.Queue[dict[str, np.ndarray]] = queue.Queue(8)
        self._capacity, self.added = capacity, 0
        threading.Thread(
            target=lambda: collections.deque(map(self._queue.put, clips), 0), daemon=True
        ).start()
        first = self._queue.get()
        self.clips = {k: jnp.zeros((capacity, *x.shape), x.dtype) for k, x in first.items()}
        self._add(first)

    def refresh(self, most: int = 4) -> int:
        """Adds clips that were read meanwhile; returns how many of the ring are filled."""
        for _ in range(min(most, self._queue.qsize())):
            self._add(self._queue.get())
        return min(self.added, self._capacity)

    def _add(self, clip: dict[str, np.ndarray]) -> None:
        self.clips = _replaced(self.clips, clip, self.added % self._capacity)
        self.added += 1


@functools.partial(jax.jit, donate_argnums=0)
def _replaced(clips: Clips, clip: dict[str, jax.Array], index: jax.Array) -> Clips:
    return {
        k: jax.lax.dynamic_update_index_in_dim(x, clip[k], index, axis=0) for k, x in clips.items()
    }


def sample(
    clips: Clips,
    filled: jax.Array,
    key: jax.Array,
    batch: int,
    frames: int,
    crop: int,
    shares: Sequence[float],
) -> Clips:
    """Draws a batch: random clips, versions, starts, crops, flips and transpositions.

    Args:
        clips: of a pool.
        filled: clips that there are.
        key: draws everything.
        batch: clips of the batch, b.
        frames: of each, t.
        crop: pixels of lq on each side.
        shares: how often each version of lq is drawn.

    Returns:
        "lq" (b, t, crop, crop, 3) and "gt" (b, t, scale*crop, scale*crop, 3), uint8.
    """
    _, versions, length, height, width, _ = clips["lq"].shape
    scale = clips["gt"].shape[2] // height
    assert len(shares) == versions, f"{len(shares)} shares for {versions} versions of lq"

    def one(key: jax.Array) -> Clips:
        keys = jax.random.split(key, 6)
        index = jax.random.randint(keys[0], (), 0, filled)
        version = jax.random.choice(keys[1], versions, p=jnp.array(shares))
        start = jax.random.randint(keys[2], (), 0, length - frames + 1)
        y = jax.random.randint(keys[3], (), 0, height - crop + 1)
        x = jax.random.randint(keys[4], (), 0, width - crop + 1)
        lq = jax.lax.dynamic_slice(
            clips["lq"], (index, version, start, y, x, 0), (1, 1, frames, crop, crop, 3)
        )[0, 0]
        gt = jax.lax.dynamic_slice(
            clips["gt"],
            (index, start, scale * y, scale * x, 0),
            (1, frames, scale * crop, scale * crop, 3),
        )[0]
        flips = jax.random.bernoulli(keys[5], shape=(3,))
        over_time = jax.vmap(turned, in_axes=(0, None))
        return {k: over_time(frames, flips) for k, frames in (("lq", lq), ("gt", gt))}

    return jax.vmap(one)(jax.random.split(key, batch))


def turned(x: jax.Array, flips: jax.Array) -> jax.Array:
    """Flips (c, c, ...) along y, along x, and transposes it, each if `flips` (3,) is True there."""
    x = jnp.where(flips[0], x[::-1], x)
    x = jnp.where(flips[1], x[:, ::-1], x)
    return jnp.where(flips[2], x.swapaxes(0, 1), x)
