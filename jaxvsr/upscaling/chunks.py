"""Splits a stream of frames into overlapping chunks and joins their outputs.

Chunks are for networks that see the whole clip. Where two chunks overlap, their outputs are
blended. The first frame of a scene starts a new chunk, since earlier frames do not help it.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np

Item = TypeVar("Item")

# A scene starts where the mean difference of two thumbnails exceeds both of these.
MIN_CHANGE = 0.08  # fraction of full scale, rarely reached by motion
CHANGE_RATIO = 4.0  # times the median difference of recent frames
THUMBNAIL = 16  # rows and columns


@dataclasses.dataclass(frozen=True)
class ChunkPlan:
    """How a stream is split into chunks.

    Attributes:
        frames: per chunk.
        overlap: frames that neighboring chunks share, at most half of `frames`.
        fade: number of frames in the middle of the overlap over which the output fades from the
            earlier chunk to the later one. Before them the earlier chunk is used, after them the
            later one.
        scenes: whether the first frame of a scene starts a chunk.
    """

    frames: int
    overlap: int
    fade: int = 0
    scenes: bool = False

    def fade_weights(self) -> np.ndarray:
        """Returns the weight of the later chunk in each shared frame: (overlap,) in [0, 1]."""
        place = np.arange(self.overlap) - (self.overlap - 1) / 2
        if not self.fade:
            return (place > 0).astype(np.float32)
        return np.clip(place / self.fade + 0.5, 0, 1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Chunk(Generic[Item]):
    """Consecutive frames that are upscaled together.

    Attributes:
        first: index of the first frame in the stream.
        items: the frames, or whatever stands for them.
        starts_scene: whether it is the first chunk of its scene.
    """

    first: int
    items: list[Item]
    starts_scene: bool

    @property
    def end(self) -> int:
        """Index of the frame after the last one."""
        return self.first + len(self.items)


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Averages a frame (h, w, 3) uint8 or uint16 over blocks: up to (16, 16, 3) in [0, 1]."""
    x = pixels[tuple(slice(None, None, max(side // 128, 1)) for side in pixels.shape[:2])]
    rows, columns = (max(side // THUMBNAIL, 1) for side in x.shape[:2])
    h, w = x.shape[0] // rows, x.shape[1] // columns
    x = x[: h * rows, : w * columns].reshape(h, rows, w, columns, 3)
    return x.mean((1, 3), dtype=np.float32) / np.iinfo(pixels.dtype).max


def mark_scene_starts(frames: Iterable[tuple[Item, np.ndarray]]) -> Iterator[tuple[Item, bool]]:
    """Detects the first frame of each scene.

    A scene starts where a frame and the next one both differ from the previous frame by far more
    than recent frames did. A flash lasts one frame and starts no scene.

    Args:
        frames: (item, `thumbnail` of the frame).

    Yields:
        (item, whether a scene starts with it); always true for the first.
    """
    recent: collections.deque[float] = collections.deque(maxlen=8)
    before: np.ndarray | None = None
    for (item, picture), following in _with_next(frames):
        if before is None:
            yield item, True
            before = picture
            continue
        after = picture if following is None else following[1]
        change = float(np.abs(picture - before).mean())
        lasting = min(change, float(np.abs(after - before).mean()))
        limit = max(MIN_CHANGE, CHANGE_RATIO * float(np.median(recent)) if recent else 0.0)
        yield item, lasting > limit
        if lasting > limit:
            recent.clear()
        elif change > limit:
            continue  # the frame after a flash is compared with the frame before it
        else:
            recent.append(change)
        before = picture


def _with_next(items: Iterable[Item]) -> Iterator[tuple[Item, Item | None]]:
    """Pairs each item with the next one; the last one with None."""
    iterator: Any = iter(items)
    try:
        item = next(iterator)
    except StopIteration:
        return
    for following in itertools.chain(iterator, [None]):
        yield item, following
        item = following


def split_into_chunks(
    frames: Iterable[tuple[Item, bool]], plan: ChunkPlan
) -> Iterator[Chunk[Item]]:
    """Splits a stream into chunks of `plan.frames`, or fewer where a scene is shorter.

    The last chunk of a scene ends with the scene, and may overlap the one before by more than
    `plan.overlap`.

    Args:
        frames: (item, whether a scene starts with it).
        plan: lengths of chunks and overlaps.
    """
    held: collections.deque[Item] = collections.deque(maxlen=plan.frames)  # of this scene
    count = scene = reached = 0  # frames seen, frames before the scene, end of the last chunk
    for item, starts in frames:
        if starts and plan.scenes:
            if count > reached:
                yield Chunk(count - len(held), list(held), count - len(held) == scene)
            held.clear()
            scene = reached = count
        held.append(item)
        count += 1
        due = scene + plan.frames if reached == scene else reached + plan.frames - plan.overlap
        if count == due:
            yield Chunk(due - plan.frames, list(held), due - plan.frames == scene)
            reached = due
    if count > reached:
        yield Chunk(count - len(held), list(held), count - len(held) == scene)


def join_chunks(
    outputs: Iterable[tuple[Chunk[Item], np.ndarray]], plan: ChunkPlan
) -> Iterator[tuple[int, Item, np.ndarray]]:
    """Joins the outputs of chunks into a stream.

    Args:
        outputs: (chunk, its output (t, H, W, 3) of integers), in order.
        plan: by which the stream was split.

    Yields:
        (frame index, item, output (H, W, 3)).
    """
    weights = plan.fade_weights()
    waiting: list[tuple[int, Item, np.ndarray]] = []  # frames that the next chunk may share
    reached = 0  # index of the frame after those
    for chunk, output in outputs:
        if chunk.starts_scene:
            yield from waiting
            waiting, reached = [], chunk.first
        later = weights[len(weights) - len(waiting) :]
        for (index, item, old), weight in zip(waiting, later, strict=True):
            yield index, item, blend(old, output[index - chunk.first], float(weight))
        reached = max(reached, chunk.first)
        new = range(reached - chunk.first, len(chunk.items))
        fresh = [(chunk.first + i, chunk.items[i], output[i]) for i in new]
        final = max(len(fresh) - plan.overlap, 0)
        yield from fresh[:final]
        waiting, reached = fresh[final:], chunk.end
        del output, fresh
    yield from waiting


def blend(old: np.ndarray, new: np.ndarray, weight: Any) -> np.ndarray:
    """Returns old + weight * (new - old) for integer arrays, rounded half to even.

    Args:
        old, new: arrays of one shape and integer dtype.
        weight: in [0, 1], a number or an array that broadcasts.
    """
    if np.ndim(weight) == 0 and weight in (0, 1):
        return new if weight else old
    mixed = old + np.asarray(weight, np.float32) * (new.astype(np.float32) - old)
    return np.rint(mixed).astype(old.dtype)
