"""Reader of files of official weights, which are untrusted downloads."""

import os
import pathlib
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from jaxvsr.errors import InputError
from jaxvsr.weights import mindspore
from jaxvsr.weights.tf_files import SAVED, read_tf

KINDS = ".pth, .pt, .safetensors, .npz, MindSpore's .ckpt, TensorFlow's checkpoint or SavedModel"
# Sets of weights in a PyTorch file, the preferred ones first.
GROUPS = ("params_ema", "params", "state_dict", "model_state_dict")


def read(path: str | os.PathLike, group: str = "") -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint; nothing in the file is executed.

    Args:
        path: PyTorch (.pth, .pt; needs torch), .safetensors, .npz, MindSpore (.ckpt), or
            TensorFlow (a tf.train checkpoint or a SavedModel's folder; needs tensorflow).
        group: the set of weights, if a PyTorch file holds several: for example "params_ema" or
            "params"; by default, the first of GROUPS that exists.

    Returns:
        Tensor names to float32 arrays.

    Raises:
        InputError: no such file or group, an unknown format, a damaged file, a file with anything
            but tensors, or torch is needed and not installed.
    """
    path = pathlib.Path(path)
    kind = _kind(path)
    if group and kind != "torch":
        raise InputError(
            f"{path} holds one set of weights; group={group!r} is for PyTorch files only"
        )
    readers = {
        "npz": lambda: dict(np.load(path, allow_pickle=False)),
        "safetensors": lambda: load_file(path),
        "torch": lambda: _read_torch(path, group),
        "mindspore": lambda: mindspore.parse(path.read_bytes()),
        "tensorflow": lambda: read_tf(path),
    }
    try:
        tensors = readers[kind]()
        return {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}
    except InputError:
        raise
    except (
        ValueError,
        RuntimeError,
        AttributeError,
        EOFError,
        OSError,
        SafetensorError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(f"{path} cannot be read as a file of tensors: {error}") from error


def _kind(path: pathlib.Path) -> str:
    """Format of a file, a key of the readers."""
    indices = path, path.with_name(f"{path.name}.index"), path / SAVED / "variables.index"
    if any(index.suffix == ".index" and index.is_file() for index in indices):
        return "tensorflow"
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix in _SUFFIXES)
        there = f"it holds {', '.join(inside[:5])}" if inside else f"files of weights are {KINDS}"
        raise InputError(f"{path} is a folder, not a file of weights: {there}")
    if not path.is_file():
        raise InputError(f"there is no file of weights {path}")
    if path.suffix not in _SUFFIXES:
        raise InputError(f"{path} is none of {KINDS}")
    if path.suffix == ".ckpt":  # MindSpore's, or PyTorch's, which are zip files or pickles
        with path.open("rb") as file:
            return "torch" if file.read(2) in (b"PK", b"\x80\x02") else "mindspore"
    return _SUFFIXES[path.suffix]


_SUFFIXES = {
    ".pth": "torch",
    ".pt": "torch",
    ".safetensors": "safetensors",
    ".npz": "npz",
    ".ckpt": "mindspore",
    ".index": "tensorflow",
}


def _read_torch(path: pathlib.Path, group: str) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path} is a file of PyTorch, which is needed to read it: pip install torch, or "
            "convert it to .safetensors elsewhere"
        ) from error
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    groups = [name for name, value in tensors.items() if isinstance(value, Mapping)]
    if group and group not in groups:
        known = f"but {', '.join(groups)}" if groups else "but one set of weights"
        raise InputError(f"{path} holds no {group!r}, {known}")
    chosen = group or next((name for name in GROUPS if name in groups), "")
    tensors = tensors[chosen] if chosen else tensors
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}
