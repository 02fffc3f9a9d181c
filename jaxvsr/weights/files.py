"""Reader of files of official weights, which are untrusted downloads."""

import argparse
import contextlib
import math
import os
import pathlib
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from jaxvsr.console import be_silent
from jaxvsr.errors import InputError
from jaxvsr.weights import mindspore
from jaxvsr.weights.tensors import MAX_BYTES, as_array, check_size, is_tensor, printable
from jaxvsr.weights.tf_files import SAVED, read_tf
from jaxvsr.weights.wrappers import select

KINDS = ".pth, .pt, .safetensors, .npz, MindSpore's .ckpt, TensorFlow's checkpoint or SavedModel"
# Beginnings of files that are often taken for weights, and their descriptions.
IMPOSTORS = (
    (rb"$", "empty: download it again"),
    (rb"version https://git-lfs", "a Git LFS pointer: get the file itself, by 'git lfs pull'"),
    (rb"\s*(<!doctype|<html|<head|<\?xml)", "a web page: download the file that it links to"),
    (rb"\x1f\x8b\x08|BZh\d1AY|\xfd7zXZ\0|7z\xbc\xaf\x27|Rar!\x1a", "an archive: unpack it first"),
    (rb"[\s!-~]{16,}$", "a text, such as a server's answer: download the file again"),
    (rb"\x93NUMPY", "a single array without a name (.npy): save all by numpy.savez"),
)


def read(
    path: str | os.PathLike, group: str = "", say: Callable[[str], None] = be_silent
) -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint; nothing in the file is executed.

    Args:
        path: PyTorch (.pth, .pt; needs torch), .safetensors, .npz, MindSpore (.ckpt), or
            TensorFlow (a tf.train checkpoint or a SavedModel's folder; needs tensorflow).
        group: the set of weights, if a PyTorch file holds several: for example "params_ema" or
            "params"; by default, the first of `wrappers.GROUPS` that exists.
        say: receives a line if there is a choice of sets.

    Returns:
        Tensor names to float32 arrays.

    Raises:
        InputError: no such file or group, an unknown format, a damaged file, a file with anything
            but tensors, one of more than MAX_BYTES, or torch is needed and not installed.
    """
    path = pathlib.Path(path)
    shown = printable(str(path))
    kind = _kind(path)
    if group and kind != "torch":
        raise InputError(
            f"{shown} holds one set of weights; group={group!r} is for PyTorch files only"
        )
    tensors = read_tf(path) if kind == "tensorflow" else _load(path, kind)
    if kind == "torch":
        try:
            tensors = select(tensors, group, say)
        except InputError as error:
            raise InputError(f"{shown} {error}") from error
    tensors = {printable(name): x for name, x in tensors.items() if is_tensor(x)}
    try:
        check_size({name: tuple(x.shape) for name, x in tensors.items()})
        return {name: as_array(name, x) for name, x in tensors.items()}
    except InputError as error:
        raise InputError(f"{shown}: {error}") from error


def _load(path: pathlib.Path, kind: str) -> Mapping[Any, Any]:
    """Loads a file of one of the kinds of _READERS."""
    shown = printable(str(path))
    try:
        _check_file(path)
        loaded = _READERS[kind](path)
        if not isinstance(loaded, Mapping):
            raise InputError(f"it holds a {type(loaded).__name__}, not tensors by name")
        return loaded
    except ImportError as error:
        raise InputError(
            f"{shown} is a file of PyTorch, which is needed to read it: pip install torch, or "
            "convert it to .safetensors elsewhere"
        ) from error
    except Exception as error:  # damaged files make the libraries raise almost anything
        reason = str(error) if isinstance(error, InputError) else _reason(error)
        raise InputError(f"{shown} cannot be read as a file of tensors: {reason}") from error


def _kind(path: pathlib.Path) -> str:
    """Format of a file, a key of the readers."""
    shown = printable(str(path))
    indices = path, path.with_name(f"{path.name}.index"), path / SAVED / "variables.index"
    if any(index.suffix == ".index" and index.is_file() for index in indices):
        return "tensorflow"
    if path.is_dir():
        inside = sorted(printable(p.name) for p in path.iterdir() if p.suffix in _SUFFIXES)
        there = f"it holds {', '.join(inside[:5])}" if inside else f"files of weights are {KINDS}"
        raise InputError(f"{shown} is a folder, not a file of weights: {there}")
    if not path.is_file():
        raise InputError(f"there is no file of weights {shown}")
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(f"{shown} is none of {KINDS}")
    if suffix == ".ckpt":  # MindSpore's, or PyTorch's, which are zip files or pickles
        with path.open("rb") as file:
            return "torch" if file.read(2) in (b"PK", b"\x80\x02") else "mindspore"
    return _SUFFIXES[suffix]


_SUFFIXES = {
    ".pth": "torch",
    ".pt": "torch",
    ".safetensors": "safetensors",
    ".npz": "npz",
    ".ckpt": "mindspore",
    ".index": "tensorflow",
}


def _check_file(path: pathlib.Path) -> None:
    """Raises InputError for a file that is no weights, too large, or unpacks to too much."""
    with path.open("rb") as file:
        start = file.read(256)
    for beginning, what in IMPOSTORS:
        if re.match(beginning, start, re.IGNORECASE):
            raise InputError(f"it is {what}")
    total = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            total = max(total, sum(entry.file_size for entry in archive.infolist()))
    if total > MAX_BYTES:
        raise InputError(
            f"it holds {total / 2**30:,.0f} GiB; expected at most {MAX_BYTES // 2**30} GiB"
        )


def _reason(error: Exception) -> str:
    """The first line of a library's error, unless it advises to load unsafely."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    if re.search("pickle|weights_only|trust", line, re.IGNORECASE):
        return "it is damaged, or holds other things than tensors"
    return printable(line)[:200]


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz file; sizes in headers must be those of the data."""
    tensors = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                reader = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, _, dtype = reader(file)
                size = math.prod(shape) * dtype.itemsize
                if dtype.hasobject or size != entry.file_size - file.tell():
                    raise InputError(
                        f"{printable(name)} has the header {dtype} {shape}, which does not fit its "
                        f"{entry.file_size} bytes"
                    )
            with archive.open(entry) as file:
                tensors[name] = np.lib.format.read_array(file, allow_pickle=False)
    return tensors


def _read_torch(path: pathlib.Path) -> Any:
    """Loads a file of PyTorch, without running code in it."""
    import torch

    # Training scripts save their arguments with the weights. They are plain values.
    safe: Any = getattr(torch.serialization, "safe_globals", contextlib.nullcontext)
    with safe([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged files; errors say the same
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
            if not foreign:
                raise
            raise InputError(
                f"it holds a Python object, {foreign[1]}, which could run code; save its tensors "
                "alone, as torch.save(model.state_dict(), path) does"
            ) from error


_READERS: dict[str, Callable[[pathlib.Path], Any]] = {
    "npz": _read_npz,
    "safetensors": load_file,
    "torch": _read_torch,
    "mindspore": lambda path: mindspore.parse(path.read_bytes()),
    "tensorflow": read_tf,
}
