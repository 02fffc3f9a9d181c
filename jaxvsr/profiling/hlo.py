"""Counts memory traffic and collectives of a compiled TPU program from its text.

The compiler's own estimate counts a loop's body once, this one once per iteration.
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
    """

    name: str
    opcode: str
    arrays: tuple[tuple[int, bool], ...]
    operands: tuple[str, ...]
    called: Mapping[str, tuple[str, ...]]
    literal: str

    @property
    def size(self) -> int:
        """Bytes of the result in main memory."""
        return sum(size for size, in_main in self.arrays if in_main)


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Traffic of a program on each device.

    Attributes:
        memory: bytes read from and written to main memory, estimated.
        collectives: kind -> (number, bytes of their results).
    """

    memory: int
    collectives: dict[str, tuple[int, int]]


def traffic(text: str) -> Traffic:
    """Counts the traffic of a compiled program, given its text (`compiled.as_text()`).

    A loop without a constant bound counts once; of a conditional the branch with most traffic
    counts.
    """
    computations, entry = _parse(text)
    total = _total(computations, entry)
    kinds = [kind for kind in COLLECTIVES if total[kind, "count"]]
    collectives = {kind: (total[kind, "count"], total[kind, "bytes"]) for kind in kinds}
    return Traffic(total["memory"], collectives)


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
            arrays = tuple(_arrays(shape))
            current[name] = Instruction(name, opcode, arrays, operands, called, inside)
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


def _total(computations: Mapping[str, Computation], name: str) -> collections.Counter:
    """Counts the traffic of a computation: "memory", (kind, "count") and (kind, "bytes")."""
    total: collections.Counter = collections.Counter()
    for instruction in computations[name].values():
        opcode, called = instruction.opcode, instruction.called
        inner = [_total(computations, name) for name in _nested(instruction)]
        if opcode == "conditional":
            inner = [max(inner, key=lambda branch: branch["memory"])]
        count = _iterations(computations[called["condition"][0]]) if opcode == "while" else 1
        for counts in inner:
            for key, value in counts.items():
                total[key] += count * value
        kind = opcode.removesuffix("-done")
        if kind in COLLECTIVES:
            total[kind, "count"] += 1
            total[kind, "bytes"] += sum(size for size, _ in instruction.arrays)
        total["memory"] += _memory(instruction, computations[name], computations)
    return total


def _nested(instruction: Instruction) -> tuple[str, ...]:
    """Returns the computations that an instruction runs, except the kernel of a fusion."""
    keys = {
        "while": ("body",),
        "call": ("to_apply",),
        "async-start": ("calls",),
        "conditional": ("branch_computations", "true_computation", "false_computation"),
    }.get(instruction.opcode, ())
    return tuple(name for key in keys for name in instruction.called.get(key, ()))


def _iterations(condition: Computation) -> int:
    """Returns the number of iterations of a loop that counts to a constant, else 1."""
    literals = [i.literal for i in condition.values() if i.opcode == "constant"]
    bounds = [int(literal) for literal in literals if literal.isdigit()]
    return bounds[0] if len(bounds) == 1 else 1


def _memory(
    instruction: Instruction, within: Computation, computations: Mapping[str, Computation]
) -> int:
    """Counts the bytes that an instruction reads from and writes to main memory."""
    opcode, size = instruction.opcode, instruction.size
    if opcode in _FREE or opcode.endswith("-done"):
        return 0
    operands = [within[name].size if name in within else 0 for name in instruction.operands]
    if opcode == "dynamic-slice":
        return 2 * size if operands[0] else size
    if opcode == UPDATE:
        return 2 * operands[1]
    if opcode == "slice-start":  # ((whole,), slice, context): only the slice moves
        (_, from_main), (size, to_main) = instruction.arrays[:2]
        return size * (from_main + to_main)
    if opcode.endswith("-start"):  # its result repeats the operands
        return sum(size for size, in_main in instruction.arrays[:1] if in_main) + sum(operands)
    if opcode == "custom-call" and not operands:  # an allocation
        return 0
    if opcode == "fusion":
        inner = computations[instruction.called["calls"][0]]
        return _of_fusion(inner, operands, size)
    return sum(operands) + size


def _of_fusion(inner: Computation, operands: list[int], size: int) -> int:
    """Counts as `_memory` for a fusion, which may read or write only parts of its arrays."""
    total = sum(operands) + size
    for parameter in inner.values():
        if parameter.opcode != "parameter" or not operands[int(parameter.literal)]:
            continue
        users = [user for user in inner.values() if parameter.name in user.operands]
        if users and all(user.opcode == "dynamic-slice" for user in users):
            total += sum(map(_whole, users)) - operands[int(parameter.literal)]
        elif [(u.opcode, u.operands[0]) for u in users] == [(UPDATE, parameter.name)]:
            # Updated in place: only the update is written.
            total += _whole(inner[users[0].operands[1]]) - min(_whole(users[0]), size)
            total -= operands[int(parameter.literal)]
    return total


def _whole(instruction: Instruction) -> int:
    return sum(size for size, _ in instruction.arrays)
