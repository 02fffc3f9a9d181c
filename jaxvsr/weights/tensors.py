"""Values of untrusted files: which are tensors, and their conversion to arrays."""

import math
from typing import Any

import numpy as np

from jaxvsr.errors import InputError

MAX_BYTES = 4 * 2**30  # of all float32 arrays of a file; the largest official file has 0.2 GiB


def is_tensor(value: Any) -> bool:
    """Whether a value is an array of NumPy, JAX or PyTorch."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def printable(name: str) -> str:
    """Escapes control characters, which a terminal would obey."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()


def check_size(sizes: dict[str, tuple[int, ...]]) -> None:
    """Raises InputError if arrays of these shapes do not fit into MAX_BYTES as float32."""
    total = sum(4 * math.prod(shape) for shape in sizes.values())
    if total > MAX_BYTES:
        name = max(sizes, key=lambda name: math.prod(sizes[name]))
        raise InputError(
            f"{printable(name)} has the shape {sizes[name]}, and all tensors take "
            f"{total / 2**30:,.0f} GiB; expected at most {MAX_BYTES // 2**30} GiB"
        )


def as_array(name: str, value: Any) -> np.ndarray:
    """Converts a tensor to a float32 array.

    Args:
        name: of the tensor, for messages.
        value: an array of NumPy or JAX, or a tensor of PyTorch, on any device.

    Raises:
        InputError: it has no values (a meta tensor), is sparse or quantized, or holds anything but
            real numbers.
    """
    name = printable(name)
    if hasattr(value, "detach"):  # PyTorch's
        kinds = {
            "a meta tensor, which has no values": value.is_meta,
            "quantized; save it dequantized": value.is_quantized,
            "sparse; save it as value.to_dense()": str(value.layout) != "torch.strided",
            "complex": value.is_complex(),
        }
        for kind, found in kinds.items():
            if found:
                raise InputError(f"{name} is {kind}")
        check_size({name: tuple(value.shape)})
        value = value.detach().cpu().float().numpy()
    try:
        value = np.asarray(value)
        if value.dtype.kind in "cOSUMm":
            raise TypeError
        with np.errstate(over="ignore"):  # infinity is reported later
            return value.astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        kind = getattr(value, "dtype", type(value).__name__)
        raise InputError(f"{name} is not a tensor of real numbers but {kind}") from error
