"""Traced programs that outlive a process: a second start neither traces nor lowers a network.

They lie beside JAX's compiled programs (`compile_cache`), as StableHLO by `jax.export`, which is
no pickle. A program is found only by all that it depends on: the network, shapes, code, versions,
settings of JAX and devices.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable
from importlib import metadata
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import export

from jaxvsr.compile_cache import TRACED
from jaxvsr.files import replacing
from jaxvsr.kernels import switch

SIZE = 2**29  # bytes; the files that were unused for longest are deleted
PACKAGE = pathlib.Path(__file__).parent
LIBRARIES = ("jax", "jaxlib", "flax", "numpy")
SUM = hashlib.sha256().digest_size
# JAX does not promise that other versions run these; the files of other versions are not read.
UNSTABLE = [
    export.DisabledSafetyCheck.custom_call(target)
    for target in ("__gpu$xla.gpu.triton", "__cudnn$fmhaSoftmax", "__cudnn$fmhaScaleBiasSoftmax")
]


def kept(what: str, model: nn.Module, details: Any, make: Callable[[], bytes]) -> bytes:
    """Returns what `make` returned at an earlier start with the same arguments.

    Args:
        what: `make` does.
        model: the network. For one that is not of this package `make` is always called.
        details: all else on which the result depends, with a complete `repr`.
        make: returns the result.
    """
    path = _place(what, model, details)
    if path is None:
        return make()
    with contextlib.suppress(OSError):
        whole = path.read_bytes()
        if hashlib.sha256(whole[SUM:]).digest() == whole[:SUM]:
            path.touch()  # it was used
            return whole[SUM:]
    content = make()
    with contextlib.suppress(OSError):  # such as a full disk: the next start makes it again
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(hashlib.sha256(content).digest() + content)
        _remove_oldest(path.parent)
    return content


def lower(function: Any, model: nn.Module, details: Any, *args: Any) -> jax.stages.Lowered:
    """Lowers a jitted function, from the program of an earlier start if there is one.

    Args:
        function: of `jax.jit`; its arguments and results consist of dicts, lists and tuples.
        model, details: what it computes, as for `kept`, except for the shapes of its arguments.
        *args: arrays or shapes.
    """
    leaves, structure = jax.tree.flatten(args)
    shapes = [(x.shape, str(x.dtype), str(getattr(x, "sharding", ""))) for x in leaves]
    details = details, str(structure), shapes
    if _place("lower", model, details) is None:
        return function.lower(*args)
    try:
        program = kept(
            "lower",
            model,
            details,
            lambda: bytes(export.export(function, disabled_checks=UNSTABLE)(*args).serialize()),
        )
        return jax.jit(export.deserialize(bytearray(program)).call).lower(*args)
    except (NotImplementedError, ValueError):  # what `jax.export` does not take
        return function.lower(*args)


def _place(what: str, model: nn.Module, details: Any) -> pathlib.Path | None:
    """Path of a result; None if it is not kept."""
    folder, network = os.environ.get(TRACED), _network(model)
    if not folder or network is None:
        return None
    key = repr((what, network, details, _settings(), _devices(), code()))
    return pathlib.Path(folder) / hashlib.sha256(key.encode()).hexdigest()


@functools.cache
def code(root: pathlib.Path = PACKAGE) -> str:
    """Returns a checksum of the code in a folder, and the versions of the libraries."""
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(f"{path.relative_to(root)} {path.stat().st_size} ".encode())
        found.update(path.read_bytes())
    return f"{found.hexdigest()} {[metadata.version(name) for name in LIBRARIES]}"


def _network(model: nn.Module) -> str | None:
    """Describes a network completely; None if it is not of this package or has other fields."""
    kind = type(model)
    names = kind.__dataclass_fields__.keys() - {"parent", "name"}
    fields = {name: getattr(model, name) for name in sorted(names)}
    plain = all(map(_is_plain, jax.tree.leaves(fields, is_leaf=lambda x: x is None)))
    if not kind.__module__.startswith("jaxvsr.models.") or not plain:
        return None
    return f"{kind.__module__}.{kind.__qualname__} {fields}"


def _is_plain(x: Any) -> bool:
    """Whether `repr` says all about a value: a number, a string, None, a dtype or a known class."""
    if isinstance(x, type):
        return x.__module__.partition(".")[0] in ("jaxvsr", *LIBRARIES)
    return isinstance(x, bool | int | float | str | np.dtype | None)


def _settings() -> list[tuple[str, str]]:
    """Lists JAX's settings, except of its cache, and whether kernels are used."""
    values = {**jax.config.values, switch.VARIABLE: switch.is_on()}
    return sorted((name, repr(x)) for name, x in values.items() if "_cache" not in name)


def _devices() -> list[str]:
    """Describes the devices on which programs run."""
    return [jax.default_backend(), *(device.device_kind for device in jax.devices())]


def _remove_oldest(folder: pathlib.Path) -> None:
    """Deletes the files that were unused for longest, until the rest is small enough."""
    found = [(path.stat(), path) for path in folder.iterdir() if not path.name.startswith(".")]
    total = sum(stat.st_size for stat, _ in found)
    for stat, path in sorted(found, key=lambda pair: pair[0].st_mtime):
        if total <= SIZE:
            break
        path.unlink(missing_ok=True)
        total -= stat.st_size
