"""Reader of MindSpore's checkpoints, without MindSpore.

A file is a protocol buffer. It consists of messages, whose fields have a number, a wire type and a
value.

    Checkpoint:   1 (repeated) Value
    Value:        1 name   2 Tensor
    Tensor:       1 (repeated) dimension   2 name of the type   3 bytes of values, little-endian

A large tensor may be split into several Values of the same name, in order.

Source: mindspore/ccsrc/utils/checkpoint.proto of MindSpore.
"""

import math
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

DTYPES = {
    "Float16": np.float16,
    "Float32": np.float32,
    "Float64": np.float64,
    "BFloat16": np.dtype(jnp.bfloat16),
    "Int8": np.int8,
    "Int16": np.int16,
    "Int32": np.int32,
    "Int64": np.int64,
    "UInt8": np.uint8,
    "UInt16": np.uint16,
    "UInt32": np.uint32,
    "UInt64": np.uint64,
    "Bool": np.bool_,
}
MAX_DIMS = 32
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


def parse(data: bytes) -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint.

    Args:
        data: the whole file.

    Returns:
        Names to arrays.

    Raises:
        ValueError: not a checkpoint, a truncated one, or one with anything but tensors.
    """
    found: dict[str, tuple[tuple[int, ...], str, list[memoryview]]] = {}
    for number, entry in _fields(memoryview(data)):
        if number != 1 or not isinstance(entry, memoryview):
            raise ValueError(f"field {number} is none of a checkpoint's")
        match dict(_fields(entry)):
            case {1: memoryview() as tag, 2: memoryview() as tensor}:
                name = bytes(tag).decode()
            case _:
                raise ValueError("an entry is not a name and a tensor")
        dims, kind, content = _tensor(name, tensor)
        found.setdefault(name, (dims, kind, []))[2].append(content)
    if not found:
        raise ValueError("it holds no tensors")
    tensors = {}
    for name, (dims, kind, contents) in found.items():
        values = np.frombuffer(b"".join(contents), DTYPES[kind])
        if values.size != math.prod(dims):
            raise ValueError(f"{name} has {values.size} values, but dimensions {dims}")
        tensors[name] = values.reshape(dims)
    return tensors


def _tensor(name: str, message: memoryview) -> tuple[tuple[int, ...], str, memoryview]:
    """Parses a Tensor into dimensions, type and bytes."""
    dims: list[int] = []
    kind, content = "", memoryview(b"")
    for number, value in _fields(message):
        match number, value:
            case 1, int():
                dims.append(value)
            case 1, memoryview():  # packed
                at = 0
                while at < len(value) and len(dims) <= MAX_DIMS:
                    size, at = _varint(value, at)
                    dims.append(size)
            case 2, memoryview():
                kind = bytes(value).decode()
            case 3, memoryview():
                content = value
        if len(dims) > MAX_DIMS:
            raise ValueError(f"{name} has more than {MAX_DIMS} dimensions")
    if kind not in DTYPES:
        raise ValueError(f"{name} is of the type {kind!r}")
    return tuple(dims), kind, content


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Iterates over the fields of a message, as (number, value)."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = _varint(message, at)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"byte {at} begins no field")
        if at + length > len(message):
            raise ValueError(f"{at + length - len(message)} bytes are missing at the end")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Parses a varint (seven bits per byte, lowest first); returns it and its end."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it ends in the middle of a number")
        byte = message[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    raise ValueError(f"byte {at} ends no number")
