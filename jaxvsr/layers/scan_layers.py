"""A stack of submodules with equal structure as a scan, compiled once for any depth."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def scan_layers(
    apply: Callable[..., tuple[Any, Any]],
    module: nn.Module,
    name: str,
    carry: Any,
    inputs: Iterable[tuple],
    period: int = 1,
) -> tuple[Any, tuple]:
    """Computes `for i, x in enumerate(inputs): carry, output = apply(module, i, carry, *x)`.

    The parameter tree is that of the Python loop, with one subtree per submodule. Values that
    submodules sow into "aux" are stacked along a new first axis, under the names of the first
    `period` submodules.

    Args:
        apply: makes and calls the submodule f"{name}_{i}" of its module argument. Its computation
            may depend on i % period, but not on i.
        module: the parent of the submodules.
        name: of the submodules, without the index.
        carry: the first submodule's.
        inputs: of each submodule, in order; trees of equal structure.
        period: number of consecutive submodules that may differ; 2: even ones from odd ones.

    Returns:
        The last carry and the outputs, one for each of the inputs.
    """
    inputs, outputs = list(inputs), []
    # A single iteration needs no loop.
    looped = len(inputs) // period * period if len(inputs) >= 2 * period else 0
    looped = 0 if module.is_initializing() else looped
    if looped:

        def gather(variables: Any) -> Any:
            params = [variables["params"][f"{name}_{i}"] for i in range(looped)]
            stacked = (_stack(params[i::period]) for i in range(period))
            return {"params": {f"{name}_{i}": tree for i, tree in enumerate(stacked)}}

        def step(module: Any, carry: Any, each: Any) -> tuple[Any, tuple]:
            found = []
            for i in range(period):
                carry, output = apply(module, i, carry, *each[i])
                found.append(output)
            return carry, tuple(found)

        scan = nn.scan(
            step,
            variable_axes={"params": 0, "aux": 0},
            split_rngs={"params": False, "gumbel": True, "droppath": True},
        )
        steps = tuple(_stack(inputs[i:looped:period]) for i in range(period))
        carry, found = nn.map_variables(scan, "params", gather)(module, carry, steps)
        outputs = [_item(found[i % period], i // period) for i in range(looped)]
    for i in range(looped, len(inputs)):
        carry, output = apply(module, i, carry, *inputs[i])
        outputs.append(output)
    return carry, tuple(outputs)


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _item(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[i], tree)
