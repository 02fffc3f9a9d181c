"""Reading files of official weights, which come from the internet and are not trusted."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvsr.errors import InputError


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint; nothing in the file is executed.

    Args:
        path: a .pth (PyTorch, needs torch), .safetensors or .npz file. Of BasicSR's checkpoints
            the moving average "params_ema" is taken where there is one, else "params".

    Returns:
        Tensor names to float32 arrays.

    Raises:
        InputError: no such file, another kind of file, or torch is not installed.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"there is no file of weights {path}")
    match path.suffix:
        case ".npz":
            tensors: Mapping[str, Any] = np.load(path, allow_pickle=False)
        case ".safetensors":
            from safetensors.numpy import load_file

            tensors = load_file(path)
        case ".pth" | ".pt":
            tensors = _read_torch(path)
        case _:
            raise InputError(f"{path} is none of .pth, .safetensors and .npz")
    return {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}


def _read_torch(path: pathlib.Path) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path} is a file of PyTorch, which is needed to read it: pip install torch, or "
            "convert it to .safetensors elsewhere"
        ) from error
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("params_ema", "params"):
        if key in tensors:
            tensors = tensors[key]
            break
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}
