"""Evaluates initializers leaf by leaf, since XLA takes minutes to compile all leaves together.

A large network has over a thousand parameters, but few kinds of draws: a distribution and a shape.
Each kind is compiled once and called for all parameters that are drawn in the same way.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Hashable, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

# Primitives that only call a function -> their parameter that holds it.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
# Primitives that make a key from a number -> the number's position among the operands.
NUMBERS = {"random_seed": 0, "random_fold_in": 1}


@dataclasses.dataclass(frozen=True, eq=False)
class _Value:
    """What a program computes with.

    Attributes:
        value: of an argument or a constant.
        constant: whether the value is compiled into the program, as `jax.jit` does.
        operation: that computes it; None for an argument or a constant.
        index: among the results of the operation.
    """

    value: Any = None
    constant: bool = False
    operation: "_Operation | None" = None
    index: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class _Operation:
    """An equation of a jaxpr.

    Attributes:
        number: the operations that it depends on have smaller ones.
        primitive, params: what is computed.
        operands: what it is computed from.
    """

    number: int
    primitive: Any
    params: dict[str, Any]
    operands: tuple[_Value, ...]


@dataclasses.dataclass(frozen=True)
class _Draw:
    """How a result is computed.

    Attributes:
        kind: equal for draws with equal programs.
        program: of the arguments.
        arguments: numbers and keys.
    """

    kind: Hashable
    program: Callable
    arguments: tuple[Any, ...]


def initialize(init: Callable, *args: Any) -> Any:
    """Evaluates an initializer on the host, to the same bits as `jax.jit(init)` on a CPU.

    Args:
        init: draws arrays from random keys. What its results do not depend on is not computed.
        *args: its arguments.

    Returns:
        The results: NumPy arrays, and keys on the CPU.
    """
    traced = jax.jit(init).trace(*args)
    closed = traced.jaxpr
    constants = [_Value(value, constant=True) for value in closed.consts]
    arguments = [_Value(value) for value in jax.tree.leaves(jax.device_get(args))]
    draws = [_draw(x) for x in _inlined(closed.jaxpr, [*constants, *arguments], [])]
    with _on_cpu():
        lowered = {}
        for draw in draws:
            if draw.kind not in lowered:
                lowered[draw.kind] = jax.jit(draw.program).lower(*draw.arguments)
        with futures.ThreadPoolExecutor() as pool:
            compiled = pool.map(lambda one: one.compile(), lowered.values())
            programs = dict(zip(lowered, compiled, strict=True))
        leaves = [programs[draw.kind](*draw.arguments) for draw in draws]
        return jax.device_get(jax.tree.unflatten(jax.tree.structure(traced.out_info), leaves))


def _inlined(jaxpr: Any, inputs: Sequence[_Value], operations: list[_Operation]) -> list[_Value]:
    """Lists the results of a jaxpr, after those of the functions that it calls.

    Args:
        jaxpr: without constants of its own.
        inputs: values of its constants and its arguments.
        operations: receives the operations.
    """
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), inputs, strict=True))

    def read(atom: Any) -> _Value:
        return _Value(atom.val, constant=True) if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        operands = [read(atom) for atom in equation.invars]
        if name in CALLS:
            called = params[CALLS[name]]
            if isinstance(called, ClosedJaxpr):
                operands = [*(_Value(x, constant=True) for x in called.consts), *operands]
                called = called.jaxpr
            results = _inlined(called, operands, operations)
        elif name == "copy":
            results = operands  # each result of the initializer becomes an array of its own
        else:
            if name in NUMBERS:
                number = operands[NUMBERS[name]]
                operands[NUMBERS[name]] = dataclasses.replace(number, constant=False)
            operation = _Operation(len(operations), equation.primitive, params, tuple(operands))
            operations.append(operation)
            results = [_Value(operation=operation, index=i) for i in range(len(equation.outvars))]
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _draw(result: _Value) -> _Draw:
    """Extracts the program that computes a result."""
    operations = sorted(_needed(result), key=lambda operation: operation.number)
    place = {operation: i for i, operation in enumerate(operations)}
    arguments: dict[_Value, int] = {}

    def kind(value: _Value) -> Hashable:
        if value.operation:
            return place[value.operation], value.index
        if not value.constant:
            return str(jax.typeof(value.value)), arguments.setdefault(value, len(arguments))
        if np.ndim(value.value):
            return "array", id(value.value)
        return "scalar", str(jax.typeof(value.value)), repr(value.value)

    steps = [(o.primitive, _hashable(o.params), *map(kind, o.operands)) for o in operations]
    whole = (*steps, kind(result))

    def draw(*given: Any) -> Any:
        computed: list[Sequence[Any]] = []

        def read(value: _Value) -> Any:
            if value.operation:
                return computed[place[value.operation]][value.index]
            return value.value if value.constant else given[arguments[value]]

        for operation in operations:
            found = operation.primitive.bind(*map(read, operation.operands), **operation.params)
            computed.append(found if operation.primitive.multiple_results else [found])
        return read(result)

    return _Draw(whole, draw, tuple(value.value for value in arguments))


def _needed(result: _Value) -> set[_Operation]:
    """Returns the operations on which a result depends."""
    found, left = set[_Operation](), [result]
    while left:
        operation = left.pop().operation
        if operation and operation not in found:
            found.add(operation)
            left += operation.operands
    return found


def _hashable(params: dict[str, Any]) -> Hashable:
    """Replaces values that cannot be compared by their identity."""
    return tuple((name, x if _has_hash(x) else id(x)) for name, x in sorted(params.items()))


def _has_hash(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _on_cpu() -> contextlib.AbstractContextManager:
    """Lets JAX compute on this host's processor, where its platform is to be had."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS names another one only
        return contextlib.nullcontext()
