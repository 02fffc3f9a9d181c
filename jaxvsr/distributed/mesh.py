"""Placement of arrays: batches are split over all devices, the state is replicated."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxvsr.errors import InputError


def make_mesh(devices: Sequence[jax.Device] | None = None, space: int = 1) -> Mesh:
    """Makes a mesh whose axis "data" divides the clips.

    Args:
        devices: of the mesh; None: all devices of all hosts.
        space: number of devices that share each clip. If it is not 1, a second axis, "space",
            divides the rows of frames (`distributed.spatial_sharding`).
    """
    devices = jax.devices() if devices is None else devices
    shape = (len(devices),) if space == 1 else (len(devices) // space, space)
    names, kinds = ("data", "space")[: len(shape)], (AxisType.Auto,) * len(shape)
    return jax.make_mesh(shape, names, axis_types=kinds, devices=devices)


def check_devices_per_frame(space: int, devices: int, name: str) -> None:
    """Raises InputError unless groups of `space` devices can share each frame.

    Args:
        space: devices per frame, as in `make_mesh`.
        devices: number of devices.
        name: of the setting.
    """
    if space < 1 or devices % space:
        raise InputError(f"{name}={space} must divide the number of devices ({devices})")


def in_mesh(function: Callable, mesh: Mesh) -> Callable:
    """Makes a function be traced in a mesh, by which it can divide what XLA cannot."""

    def inside(*args: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return inside


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that is whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array whose first axis is divided along "data"."""
    return NamedSharding(mesh, PartitionSpec("data"))


def placed(shapes: Any, mesh: Mesh) -> Any:
    """Marks a tree of shapes as replicated."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)), shapes
    )


def to_devices(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Moves the part of a batch that this host has read to its devices.

    Args:
        batch: arrays (local batch, ...); those without numbers are left out.
        mesh: of `make_mesh`.

    Returns:
        Global arrays (global batch, ...).
    """
    return {
        key: jax.make_array_from_process_local_data(split_batch(mesh), value)
        for key, value in batch.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "uif"
    }


def to_all_devices(tree: Any, mesh: Mesh) -> Any:
    """Copies arrays and keys to every device; they must be equal on all hosts."""

    def copied(x: Any) -> jax.Array:
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(
                copied(jax.random.key_data(x)), impl=jax.random.key_impl(x)
            )
        return jax.make_array_from_process_local_data(replicated(mesh), np.array(x))

    return jax.tree.map(copied, tree)


@contextlib.contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Raises InputError with advice when the memory of a device is full."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise InputError(f"the memory of a device is full: {advice} ({reason})") from error


def replicate_here(tree: Any, mesh: Mesh) -> Any:
    """Copies replicated arrays to the devices of a mesh of this host only."""
    return jax.tree.map(lambda x: jax.device_put(x.addressable_data(0), replicated(mesh)), tree)
