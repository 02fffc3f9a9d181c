"""Submodules that are alike, in a row, as a loop: compiled once, however many they are."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def scan_layers(
    run: Callable[..., tuple[Any, Any]],
    module: nn.Module,
    name: str,
    carry: Any,
    inputs: Iterable[tuple],
    period: int = 1,
) -> tuple[Any, tuple]:
    """As `for i, each in enumerate(inputs): carry, output = run(module, i, carry, *each)`.

    Parameters lie as such a loop leaves them, each submodule's by itself. What submodules sow into
    "aux" is stacked along a first axis, under the names of the first `period` of them.

    Args:
        run: makes and calls the submodule f"{name}_{i}" of the module that it is given; what else
            it does depends on i % period alone.
        module: that has the submodules.
        name: of the submodules, without the number.
        carry: what the first one is given.
        inputs: of each submodule, in order; trees that are alike.
        period: how many differ from each other; 2: those of even numbers from those of odd ones.

    Returns:
        The last carry and the outputs, one for each of the inputs.
    """
    inputs, outputs = list(inputs), []
    # A single turn needs no loop.
    looped = len(inputs) // period * period if len(inputs) >= 2 * period else 0
    looped = 0 if module.is_initializing() else looped
    if looped:

        def gather(variables: Any) -> Any:
            params = [variables["params"][f"{name}_{i}"] for i in range(looped)]
            stacked = (_stack(params[i::period]) for i in range(period))
            return {"params": {f"{name}_{i}": tree for i, tree in enumerate(stacked)}}

        def turn(module: Any, carry: Any, each: Any) -> tuple[Any, tuple]:
            found = []
            for i in range(period):
                carry, output = run(module, i, carry, *each[i])
                found.append(output)
            return carry, tuple(found)

        scan = nn.scan(
            turn,
            variable_axes={"params": 0, "aux": 0},
            split_rngs={"params": False, "gumbel": True, "droppath": True},
        )
        turns = tuple(_stack(inputs[i:looped:period]) for i in range(period))
        carry, found = nn.map_variables(scan, "params", gather)(module, carry, turns)
        outputs = [_item(found[i % period], i // period) for i in range(looped)]
    for i in range(looped, len(inputs)):
        carry, output = run(module, i, carry, *inputs[i])
        outputs.append(output)
    return carry, tuple(outputs)


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _item(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[i], tree)
