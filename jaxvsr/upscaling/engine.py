"""The network over chunks: in tiles that fit a device's memory, on all devices, one step ahead."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr.distributed import spatial_sharding as spaces
from jaxvsr.distributed.mesh import make_mesh, replicated, split_batch
from jaxvsr.errors import InputError
from jaxvsr.upscaling.chunks import Chunk
from jaxvsr.upscaling.grid import Grid
from jaxvsr.upscaling.memory import free_memory, needed_memory

Size = tuple[int, int]
Say = Callable[[str], None]

SHARE = 0.8  # of the free memory that is used
SMALLEST = 64  # side of a frame that every network takes; also of a tile


@dataclasses.dataclass(frozen=True)
class Job:
    """What is restored at once.

    Attributes:
        chunk: the frames that come out.
        lq: (t, h, w, 3) uint8 or uint16, what the network sees: at least those.
    """

    chunk: Chunk
    lq: np.ndarray


@dataclasses.dataclass(frozen=True)
class Restored:
    """A chunk's output.

    Attributes:
        chunk: whose.
        sr: (t, H, W, 3) uint8 or uint16, a frame for each of the chunk's items.
        state: gives the network's state after it, of whole frames; () where it has none.
    """

    chunk: Chunk
    sr: np.ndarray
    state: Callable[[], Any]


@dataclasses.dataclass
class Task:
    """A job that has begun: its tiles' outputs are put into `sr`, those before had `states`."""

    job: Job
    sr: np.ndarray
    left: int
    states: list[Any]
    after: Callable[[], Any] = tuple


def whole(model: nn.Module, dtype: Any) -> Callable:
    """A network over chunks: variables, (), lq (b, t, h, w, 3) -> sr of a dtype, ()."""

    def restore(variables: Any, state: tuple[()], lq: jax.Array) -> tuple[jax.Array, tuple[()]]:
        sr: Any = model.apply(variables, _as_float(lq))
        return _as_integers(sr, dtype), state

    return restore


def streaming(model: nn.Module, dtype: Any) -> Callable:
    """A network that goes on from a state: variables, state, lq (b, 1 + t + lookahead, h, w, 3),
    which begins with the frame before the first -> sr (b, t, H, W, 3), the next state."""
    window = 2 + model.lookahead

    def restore(variables: Any, state: Any, lq: jax.Array) -> tuple[jax.Array, Any]:
        def step(state: Any, frames: jax.Array) -> tuple[Any, jax.Array]:
            sr, state = model.apply(variables, state, _as_float(frames), method="step")
            return state, _as_integers(sr, dtype)

        frames = jnp.stack([lq[:, i : i + window] for i in range(lq.shape[1] - window + 1)])
        state, sr = jax.lax.scan(step, state, frames)
        return jnp.moveaxis(sr, 0, 1), state

    return restore


class Engine:
    """Compiles a network for the largest tile that fits, and restores chunk after chunk.

    Attributes:
        tile: (h, w) of what is restored at once, input pixels.
    """

    def __init__(
        self,
        model: nn.Module,
        variables: Any,
        lq: jax.ShapeDtypeStruct,
        dtype: Any,
        *,
        stream: bool,
        tile: Size | None = None,
        overlap: int = 32,
        devices: list[jax.Device],
        space: int = 1,
        say: Say = print,
    ) -> None:
        """Probes and compiles.

        Args:
            model, variables: the network.
            lq: (t, h, w, 3) of every job, uint8 or uint16.
            dtype: of the output, uint8 or uint16.
            stream: whether `model.step` goes from frame to frame, on one device.
            tile: (h, w), input pixels; None: the largest that fits.
            overlap: of neighbouring tiles, input pixels.
            devices: that share the work.
            space: how many share each frame.
            say: takes a line for the user.

        Raises:
            InputError: no tile fits, or the network cannot take such frames.
        """
        self._model, self._dtype, self._say, self._overlap = model, dtype, say, overlap
        self._mesh = make_mesh(devices, space)
        self._at_once = self._mesh.shape["data"]
        self._variables = jax.device_put(variables, replicated(self._mesh))
        self._stream = stream
        function = (streaming if stream else whole)(model, dtype)
        self._function = jax.jit(spaces.by_rows(function, self._mesh) if space > 1 else function)
        self._lq = lq
        self._size = self._smallest_that_works((lq.shape[1], lq.shape[2]))
        height, width = tile or self._size
        within = min(height, self._size[0]), min(width, self._size[1])
        self._fit(within, chosen=tile is not None)
        self._states = [self._initial(self.tile) for _ in self._grid.places]

    @property
    def like_state(self) -> Any:
        """Shapes of a state of whole frames."""
        return jax.eval_shape(lambda: self._initial(self._size))

    def set_state(self, state: Any) -> None:
        """Goes on from a state of whole frames, of `Restored.state`."""
        self._states = [jax.device_put(part) for part in self._grid.cut(state)]

    def restored(self, jobs: Iterable[Job]) -> Iterator[Restored]:
        """Restores jobs in their order; a memory that is full makes the tiles smaller.

        Raises:
            InputError: the memory is too small for the smallest tile.
        """
        source, begun = iter(jobs), list[Task]()
        while True:
            again = [task.job for task in begun]
            begun.clear()
            try:
                yield from self._run(itertools.chain(again, source), begun)
                return
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
            self._shrink(begun[0].states)

    def _run(self, jobs: Iterable[Job], begun: list[Task]) -> Iterator[Restored]:
        """While one batch of tiles is fetched and put in its place, the next is computed."""
        pieces = self._pieces(jobs, begun)
        before, computed = list[tuple[Task, int]](), jnp.zeros(0)
        while batch := list(itertools.islice(pieces, self._at_once)):
            coming = self._dispatch(batch)
            yield from self._collect(before, computed, begun)
            before, computed = batch, coming
        yield from self._collect(before, computed, begun)

    def _pieces(self, jobs: Iterable[Job], begun: list[Task]) -> Iterator[tuple[Task, int]]:
        """The tiles of each job; a job's second piece is taken when its first has been sent."""
        for job in jobs:
            places = len(self._grid.places)
            task = Task(job, np.zeros(0), places, list(self._states))
            begun.append(task)
            for i in range(places):
                yield task, i
            task.after = functools.partial(self._whole_state, self._grid, list(self._states))

    def _dispatch(self, batch: list[tuple[Task, int]]) -> jax.Array:
        """Sends tiles to the devices; those that are left without one do the last again."""
        lq = [self._padded(task.job.lq)[:, *self._grid.window(i)] for task, i in batch]
        lq += lq[-1:] * (self._at_once - len(lq))
        on_devices = jax.device_put(np.stack(lq), split_batch(self._mesh))
        place = batch[0][1]
        sr, self._states[place] = self._program(self._variables, self._states[place], on_devices)
        sr.copy_to_host_async()
        return sr

    def _collect(
        self, batch: list[tuple[Task, int]], outputs: jax.Array, begun: list[Task]
    ) -> Iterator[Restored]:
        """Waits for tiles, and gives the chunks that they make whole."""
        fetched = np.asarray(outputs)
        for (task, i), sr in zip(batch, fetched, strict=False):
            chunk, scale = task.job.chunk, self._model.scale
            sr = sr[: len(chunk.items), : scale * self.tile[0]]
            task.sr = self._grid.put(task.sr, sr, i, scale)
            task.left -= 1
            if not task.left:
                begun.remove(task)
                height, width = (side * scale for side in task.job.lq.shape[1:3])
                yield Restored(chunk, task.sr[:, :height, :width], task.after)

    def _fit(self, tile: Size, chosen: bool = False) -> None:
        """Compiles for a tile, or for the largest smaller one that the memory takes."""
        device = self._mesh.devices.flat[0]
        budget = max(int(SHARE * free_memory(device)), 1)
        while True:
            program, needed = self._compile(tile)
            if program is not None and (chosen or needed <= budget):
                break
            tile = self._smaller(tile, needed / budget)
            chosen = False
        self.tile, self._program = tile, program
        self._grid = Grid(self._size, tile, self._overlap)
        what = f"tiles of {tile[1]}x{tile[0]} pixels" if tile != self._size else "whole frames"
        self._say(
            f"restoring {self._lq.shape[0]} frames at once, {what}, on {self._mesh.size} "
            f"{device.platform}: {needed / 2**30:.2f} of {budget / 2**30:.2f} GiB each"
        )

    def _compile(self, tile: Size) -> tuple[Any, float]:
        """The program for a tile, and how many bytes it needs; None if it was too much already."""
        shape = (self._at_once, self._lq.shape[0], *tile, 3)
        lq = jax.ShapeDtypeStruct(shape, self._lq.dtype, sharding=split_batch(self._mesh))
        try:
            lowered = self._function.lower(self._variables, self._initial(tile), lq)
            program = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return None, float("inf")
        return program, needed_memory(program)

    def _smaller(self, tile: Size, excess: float) -> Size:
        """A tile whose area is smaller by a factor, or half if that is not known."""
        height, width = tile
        target = height * width / min(max(excess, 1.2), 4.0)
        while height * width > target:
            if max(height, width) <= SMALLEST + self._overlap:
                raise InputError(
                    f"the memory of a device is too small for {self._lq.shape[0]} frames of "
                    f"{width}x{height} at once: ask for fewer by --chunk"
                )
            if height >= width:
                height = _halved(height, self._overlap)
            else:
                width = _halved(width, self._overlap)
        return height, width

    def _shrink(self, states: list[Any]) -> None:
        """Goes on with smaller tiles, from the states of those before."""
        whole_state = self._whole_state(self._grid, states)
        self._say("the memory of a device is full")
        self._program = None
        self._fit(self._smaller(self.tile, 2.0))
        self.set_state(whole_state)

    def _initial(self, tile: Size) -> Any:
        return self._model.initial_state((1, *tile, 3)) if self._stream else ()

    def _whole_state(self, grid: Grid, states: list[Any]) -> Any:
        return grid.merge(jax.device_get(states))

    def _padded(self, lq: np.ndarray) -> np.ndarray:
        """Frames too small for the network, their border repeated; the last frames likewise."""
        (t, height, width), (h, w) = lq.shape[:3], self._size
        missing = self._lq.shape[0] - t
        if missing:
            lq = lq[np.pad(np.arange(t), (0, missing), "symmetric")]
        if (height, width) == (h, w):
            return lq
        return np.pad(lq, ((0, 0), (0, h - height), (0, w - width), (0, 0)), "edge")

    def _smallest_that_works(self, size: Size) -> Size:
        """A frame's size, or the next larger one that the network takes."""
        larger = (max(size[0], SMALLEST), max(size[1], SMALLEST))
        for side in (size, larger):
            lq = jax.ShapeDtypeStruct((1, self._lq.shape[0], *side, 3), self._lq.dtype)
            try:
                sr, _ = jax.eval_shape(self._function, self._variables, self._initial(side), lq)
            except ValueError as error:
                reason = error
                continue
            around = 1 + self._model.lookahead if self._stream else 0
            if sr.shape[1] != self._lq.shape[0] - around:
                raise InputError(f"the network makes {sr.shape[1]} frames of {self._lq.shape[0]}")
            return side
        raise InputError(f"the network cannot restore frames of {size[1]}x{size[0]}: {reason}")


def _halved(side: int, overlap: int) -> int:
    """The side of two tiles that cover one, a multiple of 8."""
    return -(-(side + overlap) // 16) * 8


def _as_float(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) / jnp.iinfo(x.dtype).max


def _as_integers(x: jax.Array, dtype: Any) -> jax.Array:
    """[0, 1] to integers, rounded half to even."""
    return jnp.round(jnp.clip(x, 0, 1) * jnp.iinfo(dtype).max).astype(dtype)
