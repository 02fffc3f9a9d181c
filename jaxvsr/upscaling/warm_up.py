"""Settles the state of a streaming network on the mirrored first frames of each scene.

A recurrent network starts from zeros, and its first outputs differ from those for the same frames
in the middle of a clip. Before a scene, it sees the scene's first frames in reverse order; their
outputs are dropped.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from jaxvsr.upscaling.chunks import mark_scene_starts, thumbnail
from jaxvsr.video.reading import Frame

SETTLED = 8  # frames after which the state hardly depends on its start


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlacedFrame(Frame):
    """A frame of a stream.

    Attributes:
        index: in the stream; of a mirrored frame, that of the first frame of its scene.
        mirrored: whether it only settles the network's state.
    """

    index: int
    mirrored: bool = False


def number_frames(frames: Iterable[Frame]) -> Iterator[PlacedFrame]:
    """Numbers the frames of a stream."""
    for index, frame in enumerate(frames):
        yield PlacedFrame(**vars(frame), index=index)


def insert_mirrored(
    frames: Iterable[PlacedFrame], count: int, lookahead: int
) -> Iterator[PlacedFrame]:
    """Inserts `count` frames before each scene, which settle the network's state.

    They are the frames after the scene's first one in reverse order, those of a short scene back
    and forth. The first `lookahead` of them repeat the last frame of the scene before, which would
    otherwise see another scene.

    Args:
        frames: of `number_frames`.
        count: number of frames, above `lookahead`.
        lookahead: of the network.
    """
    held: list[PlacedFrame] = []  # the first frames of a scene, until they suffice
    last: PlacedFrame | None = None  # of the scene before
    settled = True

    def released() -> Iterator[PlacedFrame]:
        if not held:
            return
        order = np.pad(np.arange(len(held)), (count, 0), "reflect")[:count]
        before = [held[i] for i in order]
        if last:
            before[:lookahead] = [last] * lookahead
        for frame in before:
            yield dataclasses.replace(frame, index=held[0].index, mirrored=True)
        yield from held

    for frame, starts in mark_scene_starts((f, thumbnail(f.pixels)) for f in frames):
        if starts:
            yield from released()
            last = held[-1] if held else last
            held, settled = [], False
        if settled:
            yield frame
            last = frame
            continue
        held.append(frame)
        if len(held) > count:
            yield from released()
            last, held, settled = frame, [], True
    yield from released()
