"""Counts kernels, memory traffic and collectives of a compiled program from its text.

A kernel, such as a fusion or a library call, reads its operands and writes its results. Loops count
once per iteration; the compiler's own estimate counts a loop's body once, and has none for GPUs.
Caches do not count, except the fast memory of a TPU, in which the compiler places arrays itself.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)
UPDATE = "dynamic-update-slice"
SLICES = ("dynamic-slice", "gather", "slice")  # read a part of their first operand
PRODUCTS = ("convolution", "dot")
# Opcodes that do not touch memory, or whose other half is counted.
_FREE = {
    "after-all",
    "async-start",
    "async-update",
    "bitcast",
    "call",
    "conditional",
    "constant",
    "get-tuple-element",
    "iota",
    "opt-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
    "while",
}
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?(%[\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?(%[\w.-]+) \(.*\{$")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_WORKSPACE = re.compile(r", [su]8\[\d+\](\{0\})?\)$")  # the last result of a library call
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_FUSION = re.compile(r"\bkind=k(\w+)")
_TARGET = re.compile(r'custom_call_target="([^"]+)"')
_BACKEND = re.compile(r'"fusion_backend_config":\{"kind":"(\w+)"')
_CALLED = re.compile(r"\b(body|condition|calls|to_apply|\w+_computations?)=(\{[^}]*\}|%[\w.-]+)")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a program.

    Attributes:
        name: of its result.
        opcode: "fusion", "while", ...
        arrays: of the result: (bytes, whether in main memory).
        operands: names.
        called: "body", "condition", "calls", ... -> names of computations.
        literal: of a constant, or the index of a parameter.
        attributes: the rest of the line.
    """

    name: str
    opcode: str
    arrays: tuple[tuple[int, bool], ...]
    operands: tuple[str, ...]
    called: Mapping[str, tuple[str, ...]]
    literal: str
    attributes: str

    @property
    def size(self) -> int:
        """Bytes of the result in main memory."""
        return sum(size for size, in_main in self.arrays if in_main)


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Traffic of a program on each device.

    Attributes:
        kernels: kind -> (number, bytes read from and written to main memory, estimated), those with
            most bytes first.
        collectives: kind -> (number, bytes of their results).
    """

    kernels: dict[str, tuple[int, int]]
    collectives: dict[str, tuple[int, int]]

    @property
    def memory(self) -> int:
        """Bytes read from and written to main memory."""
        return sum(size for _, size in self.kernels.values())

    @property
    def launched(self) -> int:
        """Number of kernels that run, each iteration of a loop counted."""
        return sum(count for count, _ in self.kernels.values())


def traffic(text: str) -> Traffic:
    """Counts the traffic of a compiled program.

    A loop without a known number of iterations counts once; of a conditional the branch with most
    traffic counts.

    Args:
        text: `compiled.as_text()`, for a GPU, a TPU or a CPU.
    """
    computations, entry = _parse(text)
    numbers, sizes = _total(computations, entry)
    kinds = sorted(numbers, key=lambda key: (-sizes[key], key))
    kernels, collectives = (
        {
            kind: (numbers[group, kind], sizes[group, kind])
            for group, kind in kinds
            if group == wanted
        }
        for wanted in ("kernel", "collective")
    )
    return Traffic(kernels, collectives)


def _parse(text: str) -> tuple[dict[str, Computation], str]:
    """Returns the computations by name, and the name of the entry computation."""
    computations: dict[str, Computation] = {}
    entry, current = "", {}
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = computations[head[2]] = {}
            entry = head[2] if head[1] else entry
        elif found := _INSTRUCTION.match(line):
            name, shape, opcode, rest = found.groups()
            inside, _, attributes = rest.partition(")")
            called = {
                key: tuple(re.findall(r"%[\w.-]+", value))
                for key, value in _CALLED.findall(attributes)
            }
            operands = tuple(re.findall(r"%[\w.-]+", inside))
            if opcode == "custom-call" or "kind=kCustom" in attributes:
                shape = _WORKSPACE.sub(")", shape)
            arrays = tuple(_arrays(shape))
            if opcode == "fusion-start":  # (operands, results, context)
                opcode, arrays = "fusion", arrays[len(operands) : -1]
            current[name] = Instruction(name, opcode, arrays, operands, called, inside, attributes)
    return computations, entry


def _arrays(shape: str) -> Iterator[tuple[int, bool]]:
    """Yields (bytes, whether in main memory) for each array of a type such as
    "(f32[8,16]{1,0:T(8,128)S(1)}, s32[])", padded to whole tiles."""
    for dtype, sides, layout in _ARRAY.findall(shape):
        dims = [int(side) for side in sides.split(",") if side]
        order, _, rest = layout.partition(":")
        tile = re.search(r"T\(([\d,]+)\)", rest)
        if tile and order:
            minor = [int(axis) for axis in order.split(",")]
            for axis, step in zip(minor, reversed(tile[1].split(",")), strict=False):
                dims[axis] = -(-dims[axis] // int(step)) * int(step)
        width = re.search(r"\d+", dtype)
        bits = int(width[0]) if width else 8 * (dtype == "pred")
        yield math.prod(dims) * bits // 8, "S(" not in rest


def _total(
    computations: Mapping[str, Computation], name: str
) -> tuple[collections.Counter, collections.Counter]:
    """Counts the kernels and collectives of a computation, and their bytes.

    Returns:
        Two counters, whose keys are ("kernel", kind) and ("collective", kind).
    """
    numbers: collections.Counter = collections.Counter()
    sizes: collections.Counter = collections.Counter()
    for instruction in computations[name].values():
        opcode = instruction.opcode
        inner = [_total(computations, name) for name in _nested(instruction)]
        if opcode == "conditional":
            inner = [max(inner, key=lambda branch: _of_kernels(branch[1]))]
        count = _iterations(instruction, computations) if opcode == "while" else 1
        for inner_numbers, inner_sizes in inner:
            for key, value in inner_numbers.items():
                numbers[key] += count * value
                sizes[key] += count * inner_sizes[key]
        kind = opcode.removesuffix("-done")
        if kind in COLLECTIVES:
            numbers["collective", kind] += 1
            sizes["collective", kind] += sum(size for size, _ in instruction.arrays)
        if _is_kernel(instruction):
            kernel = "kernel", _kind(instruction, computations)
            numbers[kernel] += 1
            sizes[kernel] += _memory(instruction, computations[name], computations)
    return numbers, sizes


def _of_kernels(sizes: collections.Counter) -> int:
    return sum(size for (group, _), size in sizes.items() if group == "kernel")


def _is_kernel(instruction: Instruction) -> bool:
    opcode = instruction.opcode
    allocates = opcode == "custom-call" and not instruction.operands
    return not (opcode in _FREE or opcode.endswith("-done") or allocates)


def _kind(instruction: Instruction, computations: Mapping[str, Computation]) -> str:
    """Names the kind of a kernel: of a fusion the work that it does or the way it is compiled."""
    if instruction.opcode == "custom-call" and (target := _TARGET.search(instruction.attributes)):
        return target[1]
    if instruction.opcode != "fusion":
        return instruction.opcode.removesuffix("-start")
    inside = computations[instruction.called["calls"][0]].values()
    for inner in inside:
        if inner.opcode == "custom-call":  # of a library, with the slices around it
            return _kind(inner, computations)
    if any(inner.opcode in PRODUCTS for inner in inside):
        return "matrix fusion"  # of a matrix product or a convolution
    if backend := _BACKEND.search(instruction.attributes):
        return f"{backend[1].strip('_')} fusion"
    found = _FUSION.search(instruction.attributes)
    kinds = {"Loop": "loop fusion", "Input": "reduction fusion"}
    return kinds.get(found[1] if found else "", "other fusion")


def _nested(instruction: Instruction) -> tuple[str, ...]:
    """Returns the computations that an instruction runs, except the kernel of a fusion."""
    keys = {
        "while": ("body",),
        "call": ("to_apply",),
        "async-start": ("calls",),
        "conditional": ("branch_computations", "true_computation", "false_computation"),
    }.get(instruction.opcode, ())
    return tuple(name for key in keys for name in instruction.called.get(key, ()))


def _iterations(loop: Instruction, computations: Mapping[str, Computation]) -> int:
    """Returns the number of iterations of a loop that counts to a constant, else 1."""
    if known := _TRIPS.search(loop.attributes):
        return int(known[1])
    condition = computations[loop.called["condition"][0]]
    literals = [i.literal for i in condition.values() if i.opcode == "constant"]
    bounds = [int(literal) for literal in literals if literal.isdigit()]
    return bounds[0] if len(bounds) == 1 else 1


def _memory(
    instruction: Instruction, within: Computation, computations: Mapping[str, Computation]
) -> int:
    """Counts the bytes that a kernel reads from and writes to main memory."""
    opcode, size = instruction.opcode, instruction.size
    operands = [within[name].size if name in within else 0 for name in instruction.operands]
    if opcode in SLICES:
        return size + min(operands[0], size) + sum(operands[1:])
    if opcode == UPDATE:
        return 2 * operands[1]
    if opcode == "slice-start":  # ((whole,), slice, context): only the slice moves
        (_, from_main), (size, to_main) = instruction.arrays[:2]
        return size * (from_main + to_main)
    if opcode.endswith("-start"):  # its result repeats the operands
        return sum(size for size, in_main in instruction.arrays[:1] if in_main) + sum(operands)
    if opcode == "fusion":
        inner = computations[instruction.called["calls"][0]]
        return _of_fusion(inner, operands, size, computations)
    return sum(operands) + size


def _of_fusion(
    inner: Computation,
    operands: list[int],
    size: int,
    computations: Mapping[str, Computation],
) -> int:
    """Counts as `_memory` for a fusion, which may read or write only parts of its arrays."""
    total = sum(operands) + size
    for parameter in inner.values():
        if parameter.opcode != "parameter" or not operands[int(parameter.literal)]:
            continue
        whole = operands[int(parameter.literal)]
        users = _users(inner, parameter.name, computations)
        parts = [_whole(user) for user, _, first in users if user.opcode in SLICES and first]
        updates = [(user, at) for user, at, first in users if user.opcode == UPDATE and first]
        if not users or len(updates) > 1 or len(parts) + len(updates) < len(users):
            continue
        total += min(whole, sum(parts)) - whole
        for update, at in updates:  # in place: only the update is written
            total += _whole(at[update.operands[1]]) - min(_whole(update), size)
    return total


def _users(
    inner: Computation, name: str, computations: Mapping[str, Computation]
) -> list[tuple[Instruction, Computation, bool]]:
    """Lists the users of an array or a view of it, in fusions within a fusion, too.

    Returns:
        For each user its computation, and whether it uses the array as its first operand only.
    """
    found = []
    for user in inner.values():
        if name in user.operands and user.opcode == "bitcast":
            found += _users(inner, user.name, computations)
        elif name in user.operands and user.opcode == "fusion":
            nested = computations[user.called["calls"][0]]
            for argument in nested.values():
                is_parameter = argument.opcode == "parameter"
                if is_parameter and user.operands[int(argument.literal)] == name:
                    found += _users(nested, argument.name, computations)
        elif name in user.operands:
            first = user.operands[0] == name and name not in user.operands[1:]
            found.append((user, inner, first))
    return found


def _whole(instruction: Instruction) -> int:
    return sum(size for size, _ in instruction.arrays)
