"""Frames whose rows are divided among devices, each of which holds some of them.

On a mesh of axes "data" and "space" (`jax.sharding.use_abstract_mesh`) clips are divided along
"data" and the rows of their frames along "space", as many on each device, fewer on the last ones.
XLA's partitioner makes the halos of convolutions and does what is done by pixel. What it would
gather in whole is here: rows that move, windows, samples from anywhere. Elsewhere the functions
here do to whole frames what they say. Frames of few rows are whole on every device.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

LEAST = 8  # rows of a device; of fewer the halos would be as large


def devices() -> int:
    """How many devices share the rows of a frame; 1 where there is no axis "space"."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if "space" in mesh.manual_axes else dict(mesh.shape).get("space", 1)


def divides(rows: int) -> bool:
    """Whether frames of so many rows are divided here."""
    return devices() > 1 and rows >= LEAST * devices()


def split(x: jax.Array, axis: int = -3) -> jax.Array:
    """Says that an array (clips, ..., rows, ...) is divided by rows, or whole if they are few."""
    if devices() == 1:
        return x
    axis %= x.ndim
    space = "space" if divides(x.shape[axis]) else None
    return jax.lax.with_sharding_constraint(x, _spec(axis, space))


def by_rows(function: Callable, mesh: jax.sharding.Mesh) -> Callable:
    """Lets a function work on frames that are divided among devices.

    Args:
        function: of anything and, last, clips (b, t, h, w, c); gives a tree of (b, t, rows, ...).
        mesh: of axes "data" and "space".

    Returns:
        A function of the same, clips divided along "data" alone. What it gives is divided by rows,
        too, and ends with rows of zeros, so that each device holds as many.
    """

    def run(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            outputs = function(*arguments[:-1], split(arguments[-1], 2))
            return jax.tree.map(
                lambda x: jax.lax.with_sharding_constraint(_even(x, 2), _spec(2, "space")), outputs
            )

    return run


def take(x: jax.Array, rows: np.ndarray, axis: int = -3) -> jax.Array:
    """Rows of frames by their numbers; a device is sent those alone that it has to hold.

    Args:
        x: (clips, ..., h, ...).
        rows: (n,) int; -1: a row of zeros.
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
        for distance, asked in sent.items():
            pairs = [(i, (i - distance) % count) for i in range(count)]
            held.append(jax.lax.ppermute(jnp.take(x, asked[0], axis), "space", pairs))
        return jnp.take(jnp.concatenate(held, axis), place[0], axis, mode="fill", fill_value=0)

    each = PartitionSpec("space")
    spec = _spec(axis, "space")
    move = jax.shard_map(local, in_specs=(spec, each, each), out_specs=spec, check_vma=False)
    return _some(move(_even(x, axis), place, sent), len(rows), axis)


def aligned(height: int, multiple: int) -> np.ndarray:
    """Rows for `take` that lay frames out in multiples: zeros at the end, so that as many rows, a
    multiple, are on each device."""
    count = devices() if divides(height) else 1
    return np.pad(np.arange(height), (0, -height % (multiple * count)), constant_values=-1)


def first(x: jax.Array, rows: int, axis: int = -3) -> jax.Array:
    """The first rows of frames (clips, ..., h, ...), divided anew."""
    if not divides(x.shape[axis]):
        return jax.lax.slice_in_dim(x, 0, min(rows, x.shape[axis]), axis=axis % x.ndim)
    return take(x, np.arange(rows), axis)


def extend(
    x: jax.Array, bottom: int, right: int, mode: Literal["reflect", "symmetric"]
) -> jax.Array:
    """Adds rows and columns at the ends of frames (clips, ..., h, w, c), as np.pad in a mode."""
    height = x.shape[-3]
    if divides(height):
        x, bottom = take(x, np.pad(np.arange(height), (0, bottom), mode)), 0
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(0, bottom), (0, right), (0, 0)], mode)


def sample(function: Callable, x: jax.Array, *places: Any, axis: int = 1) -> jax.Array:
    """`function(x, *places)`, which looks for each place anywhere in x; frame by frame if divided.

    Args:
        function: of x and places, of any rows; gives as many rows for each.
        x: (clips, ..., h, w, c).
        *places: each (clips, ..., rows, ...).
        axis: of the rows of places and of the result.

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
    """`function(weights, *trees)` of windows (n, ...), each by itself: a device's own."""
    mesh = jax.sharding.get_abstract_mesh()
    if devices() == 1 or jax.tree.leaves(trees)[0].shape[0] % mesh.size:
        return function(weights, *trees)
    windows = PartitionSpec(("data", "space"))
    specs = PartitionSpec(), *[windows] * len(trees)
    run = jax.shard_map(function, in_specs=specs, out_specs=windows, check_vma=False)
    return run(weights, *trees)


def _spec(axis: int, space: str | None) -> PartitionSpec:
    """Clips along the first axis, rows along another."""
    return PartitionSpec("data", *[None] * (axis - 1), space)


def _even(x: jax.Array, axis: int) -> jax.Array:
    """Adds rows of zeros, so that each device holds as many."""
    end = -x.shape[axis] % devices()
    return jnp.pad(split(x, axis), [(0, end if i == axis else 0) for i in range(x.ndim)])


def _some(x: jax.Array, rows: int, axis: int) -> jax.Array:
    """Leaves rows out again that were added."""
    return split(jax.lax.slice_in_dim(x, 0, rows, axis=axis), axis)


@functools.lru_cache(maxsize=256)
def _plan(
    height: int, wanted: tuple[int, ...], count: int
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Which rows devices send each other.

    Args:
        height: rows there are.
        wanted: rows asked for, as many by each device; -1: zeros.
        count: devices.

    Returns:
        Where a device finds each row, (count, n): among its own and, after them, those it is sent;
        beyond all if it is zeros. And distance -> (count, m), which of its own rows a device sends
        to the one so much before it.
    """
    own, asked = -(-height // count), np.array(wanted).reshape(count, -1)
    holder = np.where(asked < 0, -1, asked // own)
    place = np.where(holder == np.arange(count)[:, None], asked % own, np.iinfo(np.int32).max)
    sent, held = {}, own
    for distance in range(1, count):
        senders = (np.arange(count) + distance) % count
        theirs = holder == senders[:, None]
        lists = [np.unique(rows[mine]) for rows, mine in zip(asked, theirs, strict=True)]
        most = max(map(len, lists))
        if not most:
            continue
        table = np.zeros((count, most), np.int32)
        for device, (sender, rows) in enumerate(zip(senders, lists, strict=True)):
            table[sender, : len(rows)] = rows % own
            found = held + np.searchsorted(rows, asked[device])
            place[device] = np.where(theirs[device], found, place[device])
        sent[distance], held = table, held + most
    return place.astype(np.int32), sent
