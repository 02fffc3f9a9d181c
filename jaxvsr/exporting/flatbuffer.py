"""Content of LiteRT files: operations, ends, and edits."""

import collections
import copy
import dataclasses
from typing import Any

import numpy as np

SIGNATURE = "serving_default"
# On a phone's GPU. RSQRT is part of LayerNorm (SWAT, AFAVSR), SQRT of SORT_3's attention.
PHONE_OPERATIONS = frozenset(
    {
        *(
            "CONV_2D",
            "DEPTHWISE_CONV_2D",
            "ADD",
            "MUL",
            "MINIMUM",
            "MAXIMUM",
            "MEAN",
            "RSQRT",
            "SQRT",
        ),
        *("RELU", "LEAKY_RELU", "LOGISTIC", "SOFTMAX", "QUANTIZE", "DEQUANTIZE"),
        *("CONCATENATION", "SLICE", "RESHAPE", "RESIZE_BILINEAR", "DEPTH_TO_SPACE"),
    }
)


@dataclasses.dataclass(frozen=True)
class End:
    """An input or output of a file.

    Attributes:
        shape: of the array.
        dtype: "float32", "uint8" or "int8".
        scale, zero_point: real value = scale * (integer - zero_point); (1, 0) for float32.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


def read(data: bytes) -> Any:
    """Parses a file into an object of LiteRT's schema."""
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model_from_bytearray(bytearray(data))


def write(model: Any) -> bytes:
    """Inverse of `read`."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def operations(data: bytes) -> dict[str, int]:
    """Counts the operations of a file by name."""
    model = read(data)
    names = (_name(model, op) for graph in model.subgraphs for op in graph.operators)
    return dict(sorted(collections.Counter(names).items()))


def largest_rank(data: bytes) -> int:
    """Largest number of axes of an array."""
    tensors = (tensor for graph in read(data).subgraphs for tensor in graph.tensors)
    return max(len(tensor.shape) for tensor in tensors if tensor.shape is not None)


def ends(data: bytes) -> dict[str, End]:
    """Inputs and outputs by name."""
    model = read(data)
    signature, tensors = model.signatureDefs[0], model.subgraphs[0].tensors
    return {
        entry.name.decode(): _end(tensors[entry.tensorIndex])
        for entry in (*signature.inputs, *signature.outputs)
    }


def tensor_names(data: bytes) -> dict[str, str]:
    """Internal names of the inputs and outputs by name."""
    model = read(data)
    signature, tensors = model.signatureDefs[0], model.subgraphs[0].tensors
    return {
        entry.name.decode(): tensors[entry.tensorIndex].name.decode()
        for entry in (*signature.inputs, *signature.outputs)
    }


def producer(data: bytes, tensor: str) -> tuple[str, list[str]]:
    """The operation that computes a tensor, and the names of its inputs."""
    model = read(data)
    graph = model.subgraphs[0]
    names = [entry.name.decode() for entry in graph.tensors]
    for op in graph.operators:
        if names[op.outputs[0]] == tensor:
            return _name(model, op), [names[i] for i in op.inputs if i >= 0]
    raise KeyError(tensor)


def make_integer(data: bytes) -> bytes:
    """Makes a quantized file integer throughout, with uint8 ends.

    The quantizer leaves DEPTH_TO_SPACE in float between a DEQUANTIZE and a QUANTIZE; it moves
    pixels only, so it works on the integers. It also leaves the ends in int8, which LiteRT.js
    does not take; they get a QUANTIZE from or to uint8.
    """
    model = read(data)
    graph = model.subgraphs[0]
    for op in [op for op in graph.operators if _name(model, op) == "DEPTH_TO_SPACE"]:
        before = _find(graph, "outputs", op.inputs[0])
        after = _find(graph, "inputs", op.outputs[0])
        if before and after and _name(model, before) == "DEQUANTIZE":
            result, source = graph.tensors[after.outputs[0]], graph.tensors[before.inputs[0]]
            result.quantization = copy.deepcopy(source.quantization)
            op.inputs, op.outputs = [before.inputs[0]], [after.outputs[0]]
            graph.operators = [each for each in graph.operators if each not in (before, after)]
    signature = model.signatureDefs[0]
    for entry in signature.inputs:
        _make_uint8(model, entry, graph.inputs)
    for entry in signature.outputs:
        _make_uint8(model, entry, graph.outputs)
    return write(model)


def _make_uint8(model: Any, entry: Any, ends: Any) -> None:
    """Puts a QUANTIZE between an int8 end and the outside."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    inner = entry.tensorIndex
    outer = copy.deepcopy(graph.tensors[inner])
    outer.type, outer.buffer, outer.name = schema.TensorType.UINT8, 0, entry.name
    outer.quantization.zeroPoint = np.asarray(outer.quantization.zeroPoint) + 128
    graph.tensors.append(outer)
    index = entry.tensorIndex = len(graph.tensors) - 1
    place = list(ends).index(inner)
    ends[place] = index
    op = schema.OperatorT()
    op.opcodeIndex = _opcode(model, schema, "QUANTIZE")
    if ends is graph.inputs:
        op.inputs, op.outputs = [index], [inner]
        graph.operators.insert(0, op)
    else:
        op.inputs, op.outputs = [inner], [index]
        graph.operators.append(op)


def _opcode(model: Any, schema: Any, name: str) -> int:
    number = getattr(schema.BuiltinOperator, name)
    for i, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == number:
            return i
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = number
    code.version = 2  # of QUANTIZE, the first that requantizes
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _find(graph: Any, side: str, tensor: int) -> Any:
    """The only operation that has a tensor among its "inputs" or "outputs"; None otherwise."""
    found = [op for op in graph.operators if tensor in getattr(op, side)]
    return found[0] if len(found) == 1 else None


def _name(model: Any, op: Any) -> str:
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.opcode_to_name(model, op.opcodeIndex)


def _end(tensor: Any) -> End:
    from ai_edge_litert.tools import flatbuffer_utils

    dtype = flatbuffer_utils.type_to_name(tensor.type).lower()
    scaled = tensor.quantization is not None and tensor.quantization.scale is not None
    return End(
        shape=tuple(int(size) for size in tensor.shape),
        dtype=dtype,
        scale=float(tensor.quantization.scale[0]) if scaled else 1.0,
        zero_point=int(tensor.quantization.zeroPoint[0]) if scaled else 0,
    )
