"""Runs a network over chunks, in tiles that fit a device's memory, on all devices at once."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr import programs
from jaxvsr.console import compiling, work_seconds
from jaxvsr.distributed import spatial_sharding
from jaxvsr.distributed.mesh import in_mesh, make_mesh, replicated, split_batch
from jaxvsr.errors import InputError
from jaxvsr.layers.self_ensemble import self_ensemble
from jaxvsr.pixels import to_integers
from jaxvsr.upscaling.chunks import Chunk
from jaxvsr.upscaling.memory import free_memory, needed_memory
from jaxvsr.upscaling.tile_grid import TileGrid
from jaxvsr.video.reading import Say

Size = tuple[int, int]

MEMORY_FRACTION = 0.8  # of the free memory that is used
SAFE_SIZE = 64  # height and width that every network accepts; also the smallest tile


@dataclasses.dataclass(frozen=True)
class Job:
    """A chunk to be upscaled.

    Attributes:
        chunk: frames of the output.
        lq: (t, h, w, 3) uint8 or uint16, the network's input: the chunk, perhaps with more frames.
    """

    chunk: Chunk
    lq: np.ndarray


@dataclasses.dataclass(frozen=True)
class Result:
    """An upscaled chunk.

    Attributes:
        chunk: of the job.
        sr: (t, H, W, 3) uint8 or uint16, one frame for each of the chunk's items.
        state: returns the network's state after the chunk, for whole frames; () without a state.
    """

    chunk: Chunk
    sr: np.ndarray
    state: Callable[[], Any]


@dataclasses.dataclass
class Task:
    """A job that has started.

    Attributes:
        job: that is done.
        sr: receives the tiles' outputs.
        left: number of tiles that are not finished.
        states: of the network before the job, one for each tile.
        state_after: returns the state after the job, for whole frames.
    """

    job: Job
    sr: np.ndarray
    left: int
    states: list[Any]
    state_after: Callable[[], Any] = tuple


def clip_function(
    model: nn.Module, dtype: Any, noise: float | None = None, ensemble: bool = False
) -> Callable:
    """Wraps a network for whole clips.

    Args:
        model: the network.
        dtype: of the output, uint8 or uint16.
        noise: level on 0..255, for a network that takes it.
        ensemble: whether outputs are means over eight orientations of the input.

    Returns:
        A function of variables, () and lq (b, t, h, w, 3) that returns sr of the dtype and ().
    """

    def upscale(variables: Any, state: tuple[()], lq: jax.Array) -> tuple[jax.Array, tuple[()]]:
        network: Any = functools.partial(model.apply, variables)
        lq = _as_float(lq)
        if noise is not None:
            level = jnp.full_like(lq[..., :1], noise / 255)
            lq = jnp.concatenate([lq, level], axis=-1)
        sr = self_ensemble(network, lq) if ensemble else network(lq)
        return to_integers(sr, dtype), state

    return upscale


def step_function(model: nn.Module, dtype: Any) -> Callable:
    """Wraps a network that carries a state from frame to frame.

    Returns:
        A function of variables, the state and lq (b, 1 + t + lookahead, h, w, 3), which begins
        with the frame before the first. It returns sr (b, t, H, W, 3) and the next state.
    """
    window = 2 + model.lookahead

    def upscale(variables: Any, state: Any, lq: jax.Array) -> tuple[jax.Array, Any]:
        def step(state: Any, frames: jax.Array) -> tuple[Any, jax.Array]:
            sr, state = model.apply(variables, state, _as_float(frames), method="step")
            return state, to_integers(sr, dtype)

        frames = jnp.stack([lq[:, i : i + window] for i in range(lq.shape[1] - window + 1)])
        state, sr = jax.lax.scan(step, state, frames)
        return jnp.moveaxis(sr, 0, 1), state

    return upscale


class Engine:
    """Compiles a network for the largest tile that fits, and upscales chunk after chunk.

    Attributes:
        tile: (h, w) that is computed at once, input pixels.
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
        noise: float | None = None,
        ensemble: bool = False,
        say: Say = print,
    ) -> None:
        """Chooses the tile and compiles.

        Args:
            model, variables: the network.
            lq: (t, h, w, 3) of every job, uint8 or uint16.
            dtype: of the output, uint8 or uint16.
            stream: whether `model.step` carries a state from frame to frame, on one device.
            tile: (h, w), input pixels; None: the largest that fits.
            overlap: of neighboring tiles, input pixels.
            devices: that work together.
            space: number of devices that share each frame.
            noise: level on 0..255, for a network that takes it.
            ensemble: as for `clip_function`; not with `stream`.
            say: receives a line for the user.

        Raises:
            InputError: no tile fits, or the network cannot take such frames.
        """
        self._model, self._dtype, self._say, self._overlap = model, dtype, say, overlap
        self._mesh = make_mesh(devices, space)
        self._batch = self._mesh.shape["data"]
        self._variables = jax.device_put(variables, replicated(self._mesh))
        self._stream = stream
        function = (
            step_function(model, dtype) if stream else clip_function(model, dtype, noise, ensemble)
        )
        divided = spatial_sharding.by_rows if space > 1 else in_mesh
        self._function = jax.jit(divided(function, self._mesh))
        # What the function depends on, beside the network and its arguments' shapes.
        self._details = stream, np.dtype(dtype).name, noise, ensemble, space
        self._lq = lq
        found = programs.kept(
            "accepted size",
            model,
            (self._details, lq.shape, lq.dtype.name, _shapes(variables)),
            lambda: json.dumps(self._accepted_size((lq.shape[1], lq.shape[2]))).encode(),
        )
        self._size = tuple(json.loads(found))
        height, width = tile or self._size
        within = min(height, self._size[0]), min(width, self._size[1])
        self._fit(within, chosen=tile is not None)
        self._states = [self._initial_state(self.tile) for _ in self._grid.places]

    @property
    def like_state(self) -> Any:
        """Shapes of the state of whole frames."""
        return jax.eval_shape(lambda: self._initial_state(self._size))

    def set_state(self, state: Any) -> None:
        """Sets the state of whole frames, as `Result.state` returned it."""
        self._states = [jax.device_put(part) for part in self._grid.split(state)]

    def seconds(self, lq: np.ndarray) -> float:
        """Times the first tile of frames (t, h, w, 3), by `work_seconds`; infinite without memory.

        The state does not change.
        """
        tile = self._padded(lq)[:, *self._grid.window(0)]
        on_devices = jax.device_put(np.stack([tile] * self._batch), split_batch(self._mesh))
        inputs = self._variables, self._states[0], on_devices
        try:
            jax.block_until_ready(self._program(*inputs))  # the first call allocates memory
            begin = work_seconds()
            jax.block_until_ready(self._program(*inputs))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return float("inf")
        return work_seconds() - begin

    def upscale(self, jobs: Iterable[Job]) -> Iterator[Result]:
        """Upscales jobs in their order, with smaller tiles once the memory is full.

        Raises:
            InputError: the memory is too small for the smallest tile.
        """
        source, started = iter(jobs), list[Task]()
        while True:
            again = [task.job for task in started]
            started.clear()
            try:
                yield from self._compute(itertools.chain(again, source), started)
                return
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
            self._shrink(started[0].states)

    def _compute(self, jobs: Iterable[Job], started: list[Task]) -> Iterator[Result]:
        """Computes a batch of tiles while the batch before is fetched and pasted."""
        tiles = self._tiles(jobs, started)
        before, computed = list[tuple[Task, int]](), jnp.zeros(0)
        while batch := list(itertools.islice(tiles, self._batch)):
            dispatched = self._dispatch(batch)
            yield from self._collect(before, computed, started)
            before, computed = batch, dispatched
        yield from self._collect(before, computed, started)

    def _tiles(self, jobs: Iterable[Job], started: list[Task]) -> Iterator[tuple[Task, int]]:
        """Yields the tiles of each job. The next tile is requested once the last is dispatched."""
        for job in jobs:
            count = len(self._grid.places)
            task = Task(job, np.zeros(0), count, list(self._states))
            started.append(task)
            for i in range(count):
                yield task, i
            task.state_after = functools.partial(self._merged_state, self._grid, list(self._states))

    def _dispatch(self, batch: list[tuple[Task, int]]) -> jax.Array:
        """Sends tiles to the devices; surplus devices repeat the last tile."""
        lq = [self._padded(task.job.lq)[:, *self._grid.window(i)] for task, i in batch]
        lq += lq[-1:] * (self._batch - len(lq))
        on_devices = jax.device_put(np.stack(lq), split_batch(self._mesh))
        place = batch[0][1]
        sr, self._states[place] = self._program(self._variables, self._states[place], on_devices)
        sr.copy_to_host_async()
        return sr

    def _collect(
        self, batch: list[tuple[Task, int]], outputs: jax.Array, started: list[Task]
    ) -> Iterator[Result]:
        """Waits for tiles, and yields the chunks that they complete."""
        fetched = np.asarray(outputs)
        for (task, i), sr in zip(batch, fetched, strict=False):
            chunk, scale = task.job.chunk, self._model.scale
            sr = sr[: len(chunk.items), : scale * self.tile[0]]
            task.sr = self._grid.paste(task.sr, sr, i, scale)
            task.left -= 1
            if not task.left:
                started.remove(task)
                height, width = (side * scale for side in task.job.lq.shape[1:3])
                yield Result(chunk, task.sr[:, :height, :width], task.state_after)

    def _fit(self, tile: Size, chosen: bool = False) -> None:
        """Compiles for a tile; if it does not fit and was not chosen, for the largest that does."""
        device = self._mesh.devices.flat[0]
        budget = max(int(MEMORY_FRACTION * free_memory(device)), 1)
        while True:
            program, needed = self._compile(tile)
            if program is not None and (chosen or needed <= budget):
                break
            tile = self._smaller(tile, needed / budget)
            chosen = False
        self.tile, self._program = tile, program
        self._grid = TileGrid(self._size, tile, self._overlap)
        what = f"tiles of {tile[1]}x{tile[0]} pixels" if tile != self._size else "whole frames"
        self._say(
            f"upscaling {self._lq.shape[0]} frames at once, {what}, on {self._mesh.size} "
            f"{device.platform}: {needed / 2**30:.2f} of {budget / 2**30:.2f} GiB each"
        )

    def _compile(self, tile: Size) -> tuple[Any, float]:
        """The program for a tile and the bytes it needs; None if compiling ran out of memory."""
        shape = (self._batch, self._lq.shape[0], *tile, 3)
        lq = jax.ShapeDtypeStruct(shape, self._lq.dtype, sharding=split_batch(self._mesh))
        try:
            with compiling(
                f"the network for {lq.shape[1]} frames of {tile[1]}x{tile[0]}", self._say
            ):
                lowered = programs.lower(
                    self._function,
                    self._model,
                    self._details,
                    self._variables,
                    self._initial_state(tile),
                    lq,
                )
                program = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return None, float("inf")
        return program, needed_memory(program)

    def _smaller(self, tile: Size, excess: float) -> Size:
        """A tile whose area is smaller by the factor `excess`, within 1.2 to 4."""
        height, width = tile
        target = height * width / min(max(excess, 1.2), 4.0)
        while height * width > target:
            if max(height, width) <= SAFE_SIZE + self._overlap:
                raise InputError(
                    f"the memory of a device is too small for {self._lq.shape[0]} frames of "
                    f"{width}x{height} at once: set a smaller --chunk"
                )
            if height >= width:
                height = _halved(height, self._overlap)
            else:
                width = _halved(width, self._overlap)
        return height, width

    def _shrink(self, states: list[Any]) -> None:
        """Chooses smaller tiles, and converts the states of the larger ones to them."""
        merged = self._merged_state(self._grid, states)
        self._say("the memory of a device is full")
        self._program = None
        self._fit(self._smaller(self.tile, 2.0))
        self.set_state(merged)

    def _initial_state(self, tile: Size) -> Any:
        return self._model.initial_state((1, *tile, 3)) if self._stream else ()

    def _merged_state(self, grid: TileGrid, states: list[Any]) -> Any:
        return grid.merge(jax.device_get(states))

    def _padded(self, lq: np.ndarray) -> np.ndarray:
        """Repeats the border of frames that are too small, and mirrors the last frames."""
        (t, height, width), (h, w) = lq.shape[:3], self._size
        missing = self._lq.shape[0] - t
        if missing:
            lq = lq[np.pad(np.arange(t), (0, missing), "symmetric")]
        if (height, width) == (h, w):
            return lq
        return np.pad(lq, ((0, 0), (0, h - height), (0, w - width), (0, 0)), "edge")

    def _accepted_size(self, size: Size) -> Size:
        """The frames' size, or the next larger one that the network accepts."""
        larger = (max(size[0], SAFE_SIZE), max(size[1], SAFE_SIZE))
        for side in (size, larger):
            lq = jax.ShapeDtypeStruct((1, self._lq.shape[0], *side, 3), self._lq.dtype)
            try:
                sr, _ = jax.eval_shape(
                    self._function, self._variables, self._initial_state(side), lq
                )
            except ValueError as error:
                reason = error
                continue
            context = 1 + self._model.lookahead if self._stream else 0
            if sr.shape[1] != self._lq.shape[0] - context:
                raise InputError(
                    f"the network makes {sr.shape[1]} frames of {self._lq.shape[0]}: only networks "
                    "that keep the number of frames can upscale"
                )
            return side
        raise InputError(f"the network cannot take frames of {size[1]}x{size[0]}: {reason}")


def _halved(side: int, overlap: int) -> int:
    """Length of two tiles that cover `side`, a multiple of 8."""
    return -(-(side + overlap) // 16) * 8


def _shapes(tree: Any) -> str:
    return str(jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree))


def _as_float(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) / jnp.iinfo(x.dtype).max
