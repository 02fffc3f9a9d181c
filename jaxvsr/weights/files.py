"""Reading files of official weights, which come from the internet and are not trusted."""

import pathlib
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from jaxvsr.errors import InputError


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint; nothing in the file is executed.

    Args:
        path: a .pth (PyTorch, needs torch), .safetensors or .npz file. Of BasicSR's checkpoints
            the moving average "params_ema" is taken where there is one, else "params".

    Returns:
        Tensor names to float32 arrays.

    Raises:
        InputError: no such file, another kind of file, a damaged one or one that holds more than
            tensors, or torch is needed and not installed.
    """
    path = pathlib.Path(path)
    readers = {
        ".npz": lambda: dict(np.load(path, allow_pickle=False)),
        ".safetensors": lambda: load_file(path),
        ".pth": lambda: _read_torch(path),
    }
    if not path.is_file():
        raise InputError(f"there is no file of weights {path}")
    if path.suffix not in readers:
        raise InputError(f"{path} is none of .pth, .safetensors and .npz")
    try:
        tensors = readers[path.suffix]()
        return {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}
    except (
        ValueError,
        RuntimeError,
        AttributeError,
        SafetensorError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise InputError(f"{path} cannot be read as a file of tensors: {error}") from error


def _read_torch(path: pathlib.Path) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path} is a file of PyTorch, which is needed to read it: pip install torch, or "
            "convert it to .safetensors elsewhere"
        ) from error
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    tensors = next((tensors[k] for k in ("params_ema", "params") if k in tensors), tensors)
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}
