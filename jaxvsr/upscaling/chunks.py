"""A stream of frames cut into overlapping chunks, and their outputs put together again.

A network that sees the whole clip gets chunks that overlap; where two do, the picture goes over
from the one to the other. A scene's first frame begins a chunk: nothing before it helps.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np

Item = TypeVar("Item")

CUT = 0.08  # mean difference of two frames, of full scale, that motion hardly makes ...
ABOVE = 4.0  # ... and how many times the usual difference it has to be
PIECES = 16  # a side of what frames are compared by


@dataclasses.dataclass(frozen=True)
class Plan:
    """How time is cut.

    Attributes:
        frames: of a chunk.
        overlap: frames that neighbouring chunks share, at most half of `frames`.
        fade: of these, in the middle, that are mixed; before them counts the one chunk, after
            them the other.
        scenes: whether a scene's first frame begins a chunk.
    """

    frames: int
    overlap: int
    fade: int = 0
    scenes: bool = False

    def weights(self) -> np.ndarray:
        """(overlap,) in [0, 1]: how much of the later chunk is in the frames that two share."""
        place = np.arange(self.overlap) - (self.overlap - 1) / 2
        if not self.fade:
            return (place > 0).astype(np.float32)
        return np.clip(place / self.fade + 0.5, 0, 1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Chunk(Generic[Item]):
    """What is restored at once.

    Attributes:
        first: the number of its first frame in the video.
        items: of its frames.
        opens: whether it is the first of its scene.
    """

    first: int
    items: list[Item]
    opens: bool

    @property
    def end(self) -> int:
        """The number of the frame after its last."""
        return self.first + len(self.items)


def small(pixels: np.ndarray) -> np.ndarray:
    """A frame (h, w, 3) uint8 or uint16 as means of its pieces, up to (16, 16, 3), in [0, 1]."""
    x = pixels[tuple(slice(None, None, max(side // 128, 1)) for side in pixels.shape[:2])]
    rows, columns = (max(side // PIECES, 1) for side in x.shape[:2])
    h, w = x.shape[0] // rows, x.shape[1] // columns
    x = x[: h * rows, : w * columns].reshape(h, rows, w, columns, 3)
    return x.mean((1, 3), dtype=np.float32) / np.iinfo(pixels.dtype).max


def mark_cuts(frames: Iterable[tuple[Item, np.ndarray]]) -> Iterator[tuple[Item, bool]]:
    """Says of each frame whether a scene begins with it.

    One does where it and the one after it differ from the one before it by far more than frames
    did of late: a flash, which lasts a frame, is no cut.

    Args:
        frames: whatever goes with each, and its `small` picture.

    Yields:
        What went with it, and whether it begins a scene; the first does.
    """
    recent: collections.deque[float] = collections.deque(maxlen=8)
    before: np.ndarray | None = None
    for (item, picture), following in pairs(frames):
        if before is None:
            yield item, True
            before = picture
            continue
        after = picture if following is None else following[1]
        change = float(np.abs(picture - before).mean())
        lasting = min(change, float(np.abs(after - before).mean()))
        limit = max(CUT, ABOVE * float(np.median(recent)) if recent else 0.0)
        yield item, lasting > limit
        if lasting > limit:
            recent.clear()
        elif change > limit:
            continue  # what comes after a flash is compared with what was before it
        else:
            recent.append(change)
        before = picture


def pairs(items: Iterable[Item]) -> Iterator[tuple[Item, Item | None]]:
    """Each item and the one after it, None after the last."""
    ahead: Any = iter(items)
    try:
        item = next(ahead)
    except StopIteration:
        return
    for following in itertools.chain(ahead, [None]):
        yield item, following
        item = following


def cut(frames: Iterable[tuple[Item, bool]], plan: Plan) -> Iterator[Chunk[Item]]:
    """Cuts a stream into chunks of `plan.frames`, or less where a scene has less.

    The last chunk of a scene ends with it, and shares more than `plan.overlap` with the one before.

    Args:
        frames: whatever goes with each, and whether it begins a scene.
        plan: says how.
    """
    held: collections.deque[Item] = collections.deque(maxlen=plan.frames)  # of this scene
    number = scene = reached = 0  # frames taken; those before the scene; those before a chunk's end
    for item, begins in frames:
        if begins and plan.scenes:
            if number > reached:
                yield Chunk(number - len(held), list(held), number - len(held) == scene)
            held.clear()
            scene = reached = number
        held.append(item)
        number += 1
        due = scene + plan.frames if reached == scene else reached + plan.frames - plan.overlap
        if number == due:
            yield Chunk(due - plan.frames, list(held), due - plan.frames == scene)
            reached = due
    if number > reached:
        yield Chunk(number - len(held), list(held), number - len(held) == scene)


def join(
    restored: Iterable[tuple[Chunk[Item], np.ndarray]], plan: Plan
) -> Iterator[tuple[int, Item, np.ndarray]]:
    """Puts the outputs of chunks together.

    Args:
        restored: chunks in their order, and the output of each (t, H, W, 3), integers.
        plan: they were cut by.

    Yields:
        The number of each frame, what went with it, and its output (H, W, 3).
    """
    weights = plan.weights()
    waiting: list[tuple[int, Item, np.ndarray]] = []  # what the next chunk may share
    reached = 0  # the number of the frame after those
    for chunk, output in restored:
        if chunk.opens:
            yield from waiting
            waiting, reached = [], chunk.first
        later = weights[len(weights) - len(waiting) :]
        for (number, item, old), weight in zip(waiting, later, strict=True):
            yield number, item, mix(old, output[number - chunk.first], float(weight))
        reached = max(reached, chunk.first)
        new = range(reached - chunk.first, len(chunk.items))
        fresh = [(chunk.first + i, chunk.items[i], output[i]) for i in new]
        sure = max(len(fresh) - plan.overlap, 0)
        yield from fresh[:sure]
        waiting, reached = fresh[sure:], chunk.end
        del output, fresh
    yield from waiting


def mix(old: np.ndarray, new: np.ndarray, weight: Any) -> np.ndarray:
    """Integers that go over from old to new, where the weight is 1."""
    if np.ndim(weight) == 0 and weight in (0, 1):
        return new if weight else old
    mixed = old + np.asarray(weight, np.float32) * (new.astype(np.float32) - old)
    return np.rint(mixed).astype(old.dtype)
