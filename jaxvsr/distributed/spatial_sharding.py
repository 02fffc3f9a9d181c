"""Spatial sharding: the rows of frames are divided among devices.

On a mesh with axes "data" and "space" (`jax.sharding.use_abstract_mesh`), clips are sharded along
"data" and the rows of their frames along "space". XLA's partitioner handles convolutions, with
halos, and operations per pixel. The functions here replace operations for which it would gather
whole frames: moving rows, windows, and sampling at arbitrary positions. Without such a mesh they
apply to whole frames. Frames with few rows are replicated.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

MIN_ROWS = 8  # per device; with fewer, halos would be as large as the frame's part


def devices() -> int:
    """Number of devices that hold the rows of a frame; 1 without an axis "space"."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if "space" in mesh.manual_axes else dict(mesh.shape).get("space", 1)


def divides(rows: int) -> bool:
    """Whether frames with this number of rows are sharded."""
    return devices() > 1 and rows >= MIN_ROWS * devices()


def split(x: jax.Array, axis: int = -3) -> jax.Array:
    """Constrains an array (clips, ..., rows, ...) to be sharded by rows, or replicated if few."""
    if devices() == 1:
        return x
    axis %= x.ndim
    space = "space" if divides(x.shape[axis]) else None
    return jax.lax.with_sharding_constraint(x, _spec(axis, space))


def by_rows(function: Callable, mesh: jax.sharding.Mesh) -> Callable:
    """Makes a function compute on frames sharded by rows.

    Args:
        function: its last argument is clips (b, t, h, w, c); it returns a tree of
            (b, t, rows, ...).
        mesh: with axes "data" and "space".

    Returns:
        A function of the same arguments, with clips sharded along "data" only. Its outputs are
        also sharded by rows, and padded with rows of zeros to equally many per device.
    """

    def sharded(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            outputs = function(*arguments[:-1], split(arguments[-1], 2))
            return jax.tree.map(
                lambda x: jax.lax.with_sharding_constraint(_even(x, 2), _spec(2, "space")), outputs
            )

    return sharded


def take(x: jax.Array, rows: np.ndarray, axis: int = -3) -> jax.Array:
    """Takes rows of frames by index; devices exchange only the rows that they need.

    Args:
        x: (clips, ..., h, ...).
        rows: (n,) int indices; -1: a row of zeros.
        axis: of the rows.

    Returns:
        (clips, ..., n, ...).
    """
    axis, height, count = axis % x.ndim, x.shape[axis], devices()
    if np.array_equal(rows, np.arange(height)):
        return x
    if not divides(height):
        return jnp.take(x, np.where(rows < 0, height, rows), axis, mode="fill", fill_value=0)
    wanted = np.pad(rows, (0, -len(rows) % count), constant_values=-1)
    place, sent = _plan(height, tuple(wanted.tolist()), count)

    def local(x: jax.Array, place: Any, sent: Any) -> jax.Array:
        held = [x]
        for distance, rows in sent.items():
            pairs = [(i, (i - distance) % count) for i in range(count)]
            held.append(jax.lax.ppermute(jnp.take(x, rows[0], axis), "space", pairs))
        return jnp.take(jnp.concatenate(held, axis), place[0], axis, mode="fill", fill_value=0)

    each = PartitionSpec("space")
    spec = _spec(axis, "space")
    move = jax.shard_map(local, in_specs=(spec, each, each), out_specs=spec, check_vma=False)
    return _some(move(_even(x, axis), place, sent), len(rows), axis)


def aligned(height: int, multiple: int) -> np.ndarray:
    """Indices for `take` that pad frames with zeros to a multiple of rows per device.

    Args:
        height: number of rows.
        multiple: of the rows of each device.

    Returns:
        (n,) int; -1: a row of zeros.
    """
    count = devices() if divides(height) else 1
    return np.pad(np.arange(height), (0, -height % (multiple * count)), constant_values=-1)


def first(x: jax.Array, rows: int, axis: int = -3) -> jax.Array:
    """Takes the first rows of frames (clips, ..., h, ...), resharded."""
    if not divides(x.shape[axis]):
        return jax.lax.slice_in_dim(x, 0, min(rows, x.shape[axis]), axis=axis % x.ndim)
    return take(x, np.arange(rows), axis)


def pad_bottom_right(
    x: jax.Array, bottom: int, right: int, mode: Literal["reflect", "symmetric"]
) -> jax.Array:
    """Pads frames (clips, ..., h, w, c) at the bottom and right, in a mode of np.pad."""
    height = x.shape[-3]
    if divides(height):
        x, bottom = take(x, np.pad(np.arange(height), (0, bottom), mode)), 0
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(0, bottom), (0, right), (0, 0)], mode)


def sample(function: Callable, x: jax.Array, *places: Any, axis: int = 1) -> jax.Array:
    """Computes `function(x, *places)`, which samples x at arbitrary positions.

    If frames are sharded, each device gathers one whole frame at a time.

    Args:
        function: of x and any rows of places; its output has the rows of places.
        x: (clips, ..., h, w, c).
        *places: positions, each (clips, ..., rows, ...).
        axis: of the rows of places and of the output.

    Returns:
        (clips, ..., rows, ...).
    """
    height, rows = x.shape[-3], places[0].shape[axis]
    if not divides(height):
        return function(x, *places)

    def local(*divided: jax.Array) -> jax.Array:
        def one(inputs: tuple[jax.Array, ...]) -> jax.Array:
            x, *places = (y[None] for y in inputs)
            x = jax.lax.all_gather(x, "space", axis=x.ndim - 3, tiled=True)
            return function(x[..., :height, :, :], *places)[0]

        return jax.lax.map(one, divided)

    spec = _spec(axis, "space")
    divided = _even(x, x.ndim - 3), *(_even(y, axis) for y in places)
    specs = _spec(x.ndim - 3, "space"), *[spec] * len(places)
    out = jax.shard_map(local, in_specs=specs, out_specs=spec, check_vma=False)(*divided)
    return _some(out, out.shape[axis] * rows // divided[1].shape[axis], axis)


def by_windows(function: Callable, weights: Any, *trees: Any) -> Any:
    """Computes `function(weights, *trees)` on independent windows (n, ...), each on its device."""
    mesh = jax.sharding.get_abstract_mesh()
    if devices() == 1 or jax.tree.leaves(trees)[0].shape[0] % mesh.size:
        return function(weights, *trees)
    windows = PartitionSpec(("data", "space"))
    specs = PartitionSpec(), *[windows] * len(trees)
    sharded = jax.shard_map(function, in_specs=specs, out_specs=windows, check_vma=False)
    return sharded(weights, *trees)


def _spec(axis: int, space: str | None) -> PartitionSpec:
    """Sharding of clips along the first axis and rows along another."""
    return PartitionSpec("data", *[None] * (axis - 1), space)


def _even(x: jax.Array, axis: int) -> jax.Array:
    """Appends rows of zeros, to equally many per device."""
    end = -x.shape[axis] % devices()
    return jnp.pad(split(x, axis), [(0, end if i == axis else 0) for i in range(x.ndim)])


def _some(x: jax.Array, rows: int, axis: int) -> jax.Array:
    """Removes appended rows."""
    return split(jax.lax.slice_in_dim(x, 0, rows, axis=axis), axis)


@functools.lru_cache(maxsize=256)
def _plan(
    height: int, wanted: tuple[int, ...], count: int
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Plans the exchange of rows between devices.

    Args:
        height: number of rows of a frame.
        wanted: indices of wanted rows, equally many per device; -1: a row of zeros.
        count: number of devices.

    Returns:
        place: (count, n), position of each wanted row among a device's own rows followed by the
            received ones; out of range for a row of zeros.
        sent: distance -> (count, m), indices of the own rows that each device sends to the device
            `distance` before it.
    """
    own, needed = -(-height // count), np.array(wanted).reshape(count, -1)
    holder = np.where(needed < 0, -1, needed // own)
    place = np.where(holder == np.arange(count)[:, None], needed % own, np.iinfo(np.int32).max)
    sent, held = {}, own
    for distance in range(1, count):
        senders = (np.arange(count) + distance) % count
        theirs = holder == senders[:, None]
        lists = [np.unique(rows[mine]) for rows, mine in zip(needed, theirs, strict=True)]
        most = max(map(len, lists))
        if not most:
            continue
        table = np.zeros((count, most), np.int32)
        for device, (sender, rows) in enumerate(zip(senders, lists, strict=True)):
            table[sender, : len(rows)] = rows % own
            found = held + np.searchsorted(rows, needed[device])
            place[device] = np.where(theirs[device], found, place[device])
        sent[distance], held = table, held + most
    return place.astype(np.int32), sent
