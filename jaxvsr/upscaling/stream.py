"""Frames in, restored frames out: a stream of any length in the memory of a few chunks."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxvsr.distributed.mesh import check_devices_per_frame
from jaxvsr.errors import InputError
from jaxvsr.upscaling import chunks
from jaxvsr.upscaling.chunks import Chunk, Plan
from jaxvsr.upscaling.engine import Engine, Job, Restored, Say
from jaxvsr.upscaling.memory import host_memory
from jaxvsr.video.reader import Frame

FRAMES = 60  # of a chunk of a network that sees the whole clip
BLOCK = 16  # frames that a network which streams restores at once


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a stream is cut; 0 leaves it to us.

    Attributes:
        chunk: frames restored at once.
        overlap: frames that neighbouring chunks share, where a network sees the whole clip.
        tile: (h, w) restored at once, input pixels.
        tile_overlap: of neighbouring tiles, input pixels.
        deep: whether the output is of 16 bits.
        space: how many devices share each frame, all of whose rows one would not hold.
    """

    chunk: int = 0
    overlap: int = 16
    tile: tuple[int, int] = (0, 0)
    tile_overlap: int = 32
    deep: bool = False
    space: int = 1


@dataclasses.dataclass(frozen=True)
class Output:
    """A restored frame.

    Attributes:
        number: of the frame in the stream.
        frame: the input.
        sr: (H, W, 3) uint8 or uint16.
        state: the network's after it, where it was asked for.
    """

    number: int
    frame: Frame
    sr: np.ndarray
    state: Any = None


class Stream:
    """A network over a stream of frames.

    Attributes:
        settings: as asked for and, where that was left to us, as chosen.
        streams: whether the network goes on from a state, from frame to frame.
    """

    def __init__(
        self,
        model: nn.Module,
        variables: Any,
        frames: Iterable[Frame],
        settings: Settings,
        *,
        devices: list[jax.Device] | None = None,
        whole: bool = True,
        say: Say = print,
    ) -> None:
        """Reads the first frames, decides how to cut, and compiles.

        Args:
            model, variables: the network.
            frames: from the first on, all of one size and dtype.
            settings: says how.
            devices: of this host that share the work; None: all.
            whole: whether all frames are restored here; otherwise outputs may begin anywhere, and
                a network that goes on from frame to frame gets chunks.
            say: takes a line for the user.

        Raises:
            InputError: no frames, a setting that is not possible, or the memory is too small.
        """
        devices = devices or jax.local_devices()
        check_devices_per_frame(settings.space, len(devices), "--space")
        self._frames = iter(frames)
        first = next(self._frames, None)
        if first is None:
            raise InputError("there are no frames to restore")
        size = first.pixels.shape[:2]
        self.streams = whole and len(devices) == 1 and _has_state(model)
        plan = _plan(model, settings, size, self.streams, len(devices) // settings.space)
        head = [first, *itertools.islice(self._frames, plan.frames - 1)]
        if not self.streams and len(head) < plan.frames:
            plan = dataclasses.replace(plan, frames=len(head), overlap=0)
        self._plan, self._lookahead = plan, model.lookahead or 0
        self._frames = itertools.chain(head, self._frames)
        length = max(plan.frames, getattr(model, "min_frames", 1))
        if self.streams:
            length = plan.frames + 1 + self._lookahead
        self._engine = Engine(
            model,
            variables,
            jax.ShapeDtypeStruct((length, *first.pixels.shape), first.pixels.dtype),
            np.uint16 if settings.deep else np.uint8,
            stream=self.streams,
            tile=settings.tile if any(settings.tile) else None,
            overlap=settings.tile_overlap,
            devices=devices,
            space=settings.space,
            say=say,
        )
        self.settings = dataclasses.replace(settings, chunk=plan.frames, tile=self._engine.tile)

    @property
    def like_state(self) -> Any:
        """The shape of the state of whole frames."""
        return self._engine.like_state

    def outputs(self, done: int = 0, state: Any = None, every: int = 0) -> Iterator[Output]:
        """Restores the frames, once.

        Args:
            done: frames of the stream that are already restored; of a network that streams, a
                multiple of `settings.chunk`.
            state: the network's after those.
            every: number of frames after which the state is asked for each time; a multiple of
                `settings.chunk`. 0: it is not.
        """
        if self.streams:
            if state is not None:
                self._engine.set_state(state)
            jobs = windows(self._frames, self._plan.frames, self._lookahead, done)
            restored = self._engine.restored(jobs)
            outputs: Iterator[Output] = itertools.chain.from_iterable(
                _with_states(r, every) for r in restored
            )
        else:
            marked: Iterable = ((frame, False) for frame in self._frames)
            if self._plan.scenes:
                marked = chunks.mark_cuts((f, chunks.small(f.pixels)) for f in self._frames)
            jobs = (
                Job(chunk, np.stack([frame.pixels for frame in chunk.items]))
                for chunk in chunks.cut(marked, self._plan)
                if chunk.end > done
            )
            pairs = ((r.chunk, r.sr) for r in self._engine.restored(jobs))
            outputs = itertools.starmap(Output, chunks.join(pairs, self._plan))
        return (output for output in outputs if output.number >= done)


def windows(frames: Iterable[Frame], count: int, lookahead: int, done: int = 0) -> Iterator[Job]:
    """Cuts a stream for a network that goes from frame to frame.

    Args:
        frames: of the stream.
        count: that are restored at once.
        lookahead: frames after them that the network sees.
        done: frames from the first on that are left out, a multiple of `count`.

    Yields:
        A job of count frames, less at the end; lq begins with the frame before them, and ends with
        `lookahead` frames after them. The first frame is its own predecessor, and the last goes on.
    """
    stream = iter(frames)
    length = 1 + count + lookahead
    held = list(itertools.islice(stream, 1)) * 2
    for first in itertools.count(0, count):
        held += itertools.islice(stream, length - len(held))
        items = held[1 : 1 + count]
        if not items:
            return
        if first >= done:
            seen = held + held[-1:] * (length - len(held))
            yield Job(Chunk(first, items, first == 0), np.stack([f.pixels for f in seen]))
        held = held[count:]  # begins with the frame before the next


def _plan(model: nn.Module, settings: Settings, size: tuple, streams: bool, devices: int) -> Plan:
    """How time is cut for a network; raises InputError where that is asked for impossibly."""
    lookahead = model.lookahead
    if streams:
        return Plan(settings.chunk or BLOCK, 0)
    if lookahead is not None and not _has_state(model):
        # Frames further away than these have no effect: what comes out is that of whole clips.
        seen = max(lookahead, 1)
        plan = Plan(settings.chunk or 2 * seen + max(BLOCK, 2 * seen), 2 * seen)
    else:
        overlap, frames = settings.overlap, settings.chunk
        if not frames:
            height, width = (side * model.scale for side in size)
            output = height * width * 3 * (2 if settings.deep else 1)
            room = host_memory() // 4 // (output * (devices + 2))
            frames = int(min(max(room, 4), FRAMES))
            overlap = min(overlap, frames // 2)
        plan = Plan(frames, overlap, overlap // 2, scenes=True)
    if plan.frames < max(2 * plan.overlap, 1):
        raise InputError(
            f"chunks of {plan.frames} frames cannot share {plan.overlap} with each neighbour: "
            f"--chunk={2 * plan.overlap} at least, or another --overlap"
        )
    return plan


def _has_state(model: nn.Module) -> bool:
    """Whether a network with finite lookahead carries something from frame to frame."""
    if model.lookahead is None or not hasattr(model, "initial_state"):
        return False
    return bool(jax.tree.leaves(jax.eval_shape(lambda: model.initial_state((1, 64, 64, 3)))))


def _with_states(restored: Restored, every: int) -> Iterator[Output]:
    chunk = restored.chunk
    for i, frame in enumerate(chunk.items):
        last = i + 1 == len(chunk.items)
        asked = last and every and chunk.end % every == 0
        yield Output(chunk.first + i, frame, restored.sr[i], restored.state() if asked else None)
