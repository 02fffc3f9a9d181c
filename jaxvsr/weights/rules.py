"""How the places of our trees are called in official checkpoints, and the transfer by it."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Rules:
    """The table of one model.

    Attributes:
        names: (pattern, replacement) pairs of `re.sub`, applied in turn to a place in our tree
            ("head/upconv1/kernel"); what comes out is the official name.
        unused: matches the official tensors that are not taken over, whether they are there or
            not: buffers, and layers that no path of the official code uses.
    """

    names: tuple[tuple[str, str | Callable[[re.Match], str]], ...]
    unused: str = r"(?!)"

    def official_name(self, place: str) -> str:
        """The official name of a place in our tree."""
        for pattern, replacement in self.names:
            place = re.sub(pattern, replacement, place)
        return place


def places(tree: Any) -> list[str]:
    """The leaves of a tree as places, "params/head/upconv1/kernel"."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]


def take_over(
    expected: Any, rules: Rules, tensors: Mapping[str, Any], kernel: Callable[[np.ndarray], Any]
) -> Any:
    """Fills a tree with official tensors, each used exactly once.

    Args:
        expected: a tree of anything that has a shape.
        rules: the table of names.
        tensors: official names to arrays.
        kernel: brings an official kernel into our layout.

    Returns:
        The tree, of float32 NumPy arrays.

    Raises:
        ValueError: names the tensors that are missing, left over or of another shape.
    """
    used, missing, misshapen = set(), [], []

    def fill(path: tuple, leaf: Any) -> np.ndarray | None:
        place = jax.tree_util.keystr(path, simple=True, separator="/").removeprefix("params/")
        name = rules.official_name(place)
        if name not in tensors:
            missing.append(f"{name} (for {place})")
            return None
        used.add(name)
        value = np.asarray(tensors[name], np.float32)
        value = kernel(value) if place.endswith("kernel") else value
        if value.shape != leaf.shape:
            misshapen.append(f"{name} {value.shape} (for {place} {leaf.shape})")
        return value

    tree = jax.tree_util.tree_map_with_path(fill, expected)
    left_over = [k for k in tensors if k not in used and not re.search(rules.unused, k)]
    problems = (("missing", missing), ("left over", left_over), ("of another shape", misshapen))
    if any(names for _, names in problems):
        found = [f"  {what}: {', '.join(names)}" for what, names in problems if names]
        raise ValueError("the weights do not fit the model:\n" + "\n".join(found))
    return tree
