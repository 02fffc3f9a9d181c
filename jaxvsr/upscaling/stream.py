"""Upscales a stream of frames of any length in the memory of a few chunks."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxvsr.distributed.mesh import check_devices_per_frame
from jaxvsr.errors import InputError
from jaxvsr.models import accepted_frames
from jaxvsr.upscaling import chunks
from jaxvsr.upscaling.chunks import Chunk, ChunkPlan
from jaxvsr.upscaling.engine import Engine, Job, Result
from jaxvsr.upscaling.gated import gated_form, is_faster
from jaxvsr.upscaling.memory import host_memory
from jaxvsr.upscaling.warm_up import SETTLED, PlacedFrame, insert_mirrored, number_frames
from jaxvsr.video.reading import Frame, Say

MAX_CHUNK = 60  # frames, for networks that see the whole clip
OVERLAP = 16  # frames that neighboring chunks of such a network share
STREAMED_FRAMES = 16  # frames that a network with finite lookahead upscales at once


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a stream is split; 0 means an automatic choice.

    Attributes:
        chunk: frames that are upscaled at once.
        overlap: frames that neighboring chunks share, for networks that see the whole clip; None:
            OVERLAP.
        tile: (h, w) that is upscaled at once, input pixels.
        tile_overlap: of neighboring tiles, input pixels.
        deep: whether the output has 16 bits.
        space: number of devices that share the rows of each frame.
        warm_up: whether a network that carries a state first sees the mirrored first frames of each
            scene, so that its output is settled from the first frame on. If not, the output is that
            of the network for the whole clip.
        gated: whether a network with masks computes kept tokens only; None: where that is faster
            for the first of several chunks. Both differ by rounding errors. On one device only.
        noise: level of the input's noise, on 0..255, for a network that takes it; None for others.
        self_ensemble: whether outputs are means over the eight flips and transposes of the input.
            A network that carries a state then gets overlapping chunks.
    """

    chunk: int = 0
    overlap: int | None = None
    tile: tuple[int, int] = (0, 0)
    tile_overlap: int = 32
    deep: bool = False
    space: int = 1
    warm_up: bool = False
    gated: bool | None = False
    noise: float | None = None
    self_ensemble: bool = False


@dataclasses.dataclass(frozen=True)
class Output:
    """An upscaled frame.

    Attributes:
        index: of the frame in the stream.
        frame: the input.
        sr: (H, W, 3) uint8 or uint16.
        state: of the network after the frame, if requested.
    """

    index: int
    frame: Frame
    sr: np.ndarray
    state: Any = None


class Stream:
    """A network over a stream of frames.

    Attributes:
        settings: as given, with the automatic choices filled in.
        streams: whether the network carries a state from frame to frame, so that chunks need no
            overlap.
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
        """Reads the first frames, chooses chunks and tiles, and compiles.

        Args:
            model, variables: the network.
            frames: from the first on, all of one size and dtype.
            settings: how the stream is split.
            devices: of this host, to be used; None: all.
            whole: whether the whole stream is upscaled here. Otherwise outputs may start anywhere,
                and a network with a state gets overlapping chunks.
            say: receives a line for the user.

        Raises:
            InputError: no frames, an impossible setting, or too little memory.
        """
        devices = devices or jax.local_devices()
        check_devices_per_frame(settings.space, len(devices), "--space")
        check_overlap(model, settings, devices, whole)
        check_noise(model, settings)
        source = number_frames(frames)
        first = next(source, None)
        if first is None:
            raise InputError("there are no frames to upscale")
        size = first.pixels.shape[:2]
        self.streams = _streams(model, devices, whole, settings)
        plan = _make_plan(model, settings, size, self.streams, len(devices) // settings.space)
        chunk = plan.frames
        placed: Iterator[PlacedFrame] = itertools.chain([first], source)
        self._warms_up = settings.warm_up and _has_state(model)
        if self._warms_up:
            each = plan.frames if self.streams else 1
            # Whole chunks, so that a chunk of a stream ends at the same frames as without.
            count = -(-(SETTLED + model.lookahead) // each) * each
            placed = insert_mirrored(placed, count, model.lookahead)
        head = list(itertools.islice(placed, plan.frames))
        if not self.streams and len(head) < plan.frames:
            plan = dataclasses.replace(plan, frames=len(head), overlap=0)
        self._plan, self._lookahead = plan, _lookahead(model) or 0
        beyond = list(itertools.islice(placed, 1))
        self._frames = itertools.chain(head, beyond, placed)
        length = accepted_frames(model, plan.frames)
        if self.streams:
            length = plan.frames + 1 + self._lookahead
        make_engine = functools.partial(
            Engine,
            variables=variables,
            lq=jax.ShapeDtypeStruct((length, *first.pixels.shape), first.pixels.dtype),
            dtype=np.uint16 if settings.deep else np.uint8,
            stream=self.streams,
            overlap=settings.tile_overlap,
            devices=devices,
            space=settings.space,
            noise=settings.noise,
            ensemble=settings.self_ensemble,
            say=say,
        )
        tile = settings.tile if any(settings.tile) else None
        form = gated_form(model) if len(devices) == 1 else None
        network = form if form and settings.gated else model
        gated = network is form
        self._engine = make_engine(network, tile=tile)
        if settings.gated is None and form and beyond:
            other = make_engine(form, tile=self._engine.tile)
            lq = np.stack([frame.pixels for frame in head])
            gated = is_faster(other, self._engine, lq, say)
            self._engine = other if gated else self._engine
        # Not the length of a shorter stream: a resumed run shortens the chunk itself.
        self.settings = dataclasses.replace(
            settings, chunk=chunk, tile=self._engine.tile, gated=gated
        )

    @property
    def like_state(self) -> Any:
        """Shapes of the state of whole frames."""
        return self._engine.like_state

    def outputs(self, done: int = 0, state: Any = None, every: int = 0) -> Iterator[Output]:
        """Upscales the frames; can be called once.

        Args:
            done: number of frames that are already upscaled; for a network that streams, a multiple
                of `settings.chunk`.
            state: of the network after those.
            every: number of frames after which outputs carry the state, a multiple of
                `settings.chunk`; 0: never.
        """
        if self.streams:
            if state is not None:
                self._engine.set_state(state)
            jobs = split_into_windows(self._frames, self._plan.frames, self._lookahead, done)
            results = self._engine.upscale(jobs)
            outputs: Iterator[Output] = itertools.chain.from_iterable(
                _with_states(result, every) for result in results
            )
        else:
            marked: Iterable = ((frame, False) for frame in self._frames)
            if self._warms_up:
                marked = _mark_mirrored(self._frames)
            elif self._plan.scenes:
                thumbnails = ((f, chunks.thumbnail(f.pixels)) for f in self._frames)
                marked = chunks.mark_scene_starts(thumbnails)
            jobs = (
                Job(chunk, np.stack([frame.pixels for frame in chunk.items]))
                for chunk in chunks.split_into_chunks(marked, self._plan)
                if chunk.items[-1].index >= done
            )
            pairs = ((result.chunk, result.sr) for result in self._engine.upscale(jobs))
            joined = chunks.join_chunks(pairs, self._plan)
            outputs = (Output(f.index, f, sr) for _, f, sr in joined if not f.mirrored)
        return (output for output in outputs if output.index >= done)


def _mark_mirrored(frames: Iterable[PlacedFrame]) -> Iterator[tuple[PlacedFrame, bool]]:
    """Marks the first mirrored frame of each scene as the start of a scene."""
    before = False
    for frame in frames:
        yield frame, frame.mirrored and not before
        before = frame.mirrored


def split_into_windows(
    frames: Iterable[PlacedFrame], count: int, lookahead: int, done: int = 0
) -> Iterator[Job]:
    """Splits a stream for a network that carries a state from frame to frame.

    Args:
        frames: of the stream, perhaps with mirrored ones before scenes, multiples of `count`.
        count: frames that are upscaled at once.
        lookahead: frames after them that the network sees.
        done: number of frames at the beginning that are skipped, a multiple of `count`.

    Yields:
        Jobs of `count` frames, fewer at the end. Their lq begins with the frame before them and
        ends with `lookahead` frames after them; the first and last frames are repeated.
    """
    stream = iter(frames)
    length = 1 + count + lookahead
    held = list(itertools.islice(stream, 1)) * 2
    for first in itertools.count(0, count):
        held += itertools.islice(stream, length - len(held))
        items = held[1 : 1 + count]
        if not items:
            return
        if items[-1].index >= done:
            seen = held + held[-1:] * (length - len(held))
            yield Job(Chunk(first, items, first == 0), np.stack([f.pixels for f in seen]))
        held = held[count:]  # begins with the frame before the next ones


def check_overlap(
    model: nn.Module,
    settings: Settings,
    devices: list[jax.Device] | None = None,
    whole: bool = True,
) -> None:
    """Raises InputError if an overlap is set that the network has no use for.

    Args:
        model: the network.
        settings: to be checked.
        devices, whole: as for `Stream`.
    """
    split_like_clips = _lookahead(model) is None or _has_state(model)
    devices = devices or jax.local_devices()
    used = split_like_clips and not _streams(model, devices, whole, settings)
    if settings.overlap is not None and not used:
        raise InputError(
            "--overlap is for networks that see the whole clip; this one has a finite lookahead "
            f"({model.lookahead}), and its output is exact without an overlap: leave it out"
        )


def check_noise(model: nn.Module, settings: Settings) -> None:
    """Raises InputError unless a noise level is set for exactly the networks that take one."""
    takes = getattr(model, "noise_level", False)
    if takes and settings.noise is None:
        raise InputError(
            "this network removes noise of a given level: add --noise=LEVEL, the noise's standard "
            "deviation on 0..255, for example 10"
        )
    if settings.noise is not None and not takes:
        raise InputError("--noise is for networks with model.noise_level: leave it out")


def _make_plan(
    model: nn.Module, settings: Settings, size: tuple, streams: bool, devices: int
) -> ChunkPlan:
    """Chooses chunks for a network; raises InputError for impossible settings."""
    lookahead = _lookahead(model)
    if streams:
        return ChunkPlan(settings.chunk or STREAMED_FRAMES, 0)
    if lookahead is not None and not _has_state(model):
        # Frames further away have no effect, so the output equals that of the whole clip.
        seen = max(lookahead, 1)
        plan = ChunkPlan(settings.chunk or 2 * seen + max(STREAMED_FRAMES, 2 * seen), 2 * seen)
    else:
        overlap, frames = settings.overlap, settings.chunk
        overlap = OVERLAP if overlap is None else overlap
        if not frames:
            height, width = (side * model.scale for side in size)
            output = height * width * 3 * (2 if settings.deep else 1)
            memory = host_memory() // 4 // (output * (devices + 2))
            frames = int(min(max(memory, 4), MAX_CHUNK))
            overlap = min(overlap, frames // 2)
        plan = ChunkPlan(frames, overlap, overlap // 2, scenes=True)
    if plan.frames < max(2 * plan.overlap, 1):
        raise InputError(
            f"chunks of {plan.frames} frames are too short for an overlap of {plan.overlap}: set "
            f"--chunk={2 * plan.overlap} or more, or a smaller --overlap"
        )
    return plan


def _lookahead(model: nn.Module) -> int | None:
    """Frames of future that a network needs; None: the whole clip, or the network does not say."""
    return getattr(model, "lookahead", None)


def _has_state(model: nn.Module) -> bool:
    """Whether a network with finite lookahead carries a state from frame to frame."""
    if _lookahead(model) is None or not hasattr(model, "initial_state"):
        return False
    return bool(jax.tree.leaves(jax.eval_shape(lambda: model.initial_state((1, 64, 64, 3)))))


def _streams(model: nn.Module, devices: list[jax.Device], whole: bool, settings: Settings) -> bool:
    """Whether frames are computed one after the other from a state."""
    alone = whole and len(devices) == 1 and not settings.self_ensemble
    return alone and _has_state(model)


def _with_states(result: Result, every: int) -> Iterator[Output]:
    for i, frame in enumerate(result.chunk.items):
        if frame.mirrored:
            continue
        last = i + 1 == len(result.chunk.items)
        wanted = last and every and (frame.index + 1) % every == 0
        yield Output(frame.index, frame, result.sr[i], result.state() if wanted else None)
