"""How the places of our trees are called in official checkpoints, and the transfer by it."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxvsr.errors import InputError


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


@dataclasses.dataclass(frozen=True)
class Match:
    """How the tensors of a file fit a model.

    Attributes:
        expected: the model's variables, a tree of anything that has a shape.
        taken: place in the tree -> official name, and the tensor in our layout, float32.
        missing: place -> official name of a tensor that is not there.
        misshapen: place -> official name of a tensor of another shape, and that shape.
        left_over: names of tensors that the model has no place for.
        unused: names of tensors that are not taken over, and need not be.
    """

    expected: Any
    taken: dict[str, tuple[str, np.ndarray]]
    missing: dict[str, str]
    misshapen: dict[str, tuple[str, tuple[int, ...]]]
    left_over: list[str]
    unused: list[str]

    @property
    def share(self) -> float:
        """Which part of all tensors, of the file and of the model, fit each other."""
        others = len(self.missing) + len(self.misshapen) + len(self.left_over)
        return len(self.taken) / max(len(self.taken) + others, 1)

    def tree(self) -> Any:
        """The variables with the file's values; raises InputError if anything does not fit."""
        leaves = places(self.expected)
        misshapen = [
            f"{name} {shape} (for {place} {leaves[place].shape})"
            for place, (name, shape) in self.misshapen.items()
        ]
        problems = {
            "missing": [f"{name} (for {place})" for place, name in self.missing.items()],
            "left over": self.left_over,
            "of another shape": misshapen,
        }
        found = [f"  {what}: {some(names)}" for what, names in problems.items() if names]
        if found:
            raise InputError("the weights do not fit the model:\n" + "\n".join(found))
        values = [self.taken[place][1] for place in leaves]
        return jax.tree.unflatten(jax.tree.structure(self.expected), values)


def places(tree: Any) -> dict[str, Any]:
    """The leaves of a model's variables by place: "head/upconv1/kernel"."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/").removeprefix("params/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def match(
    expected: Any, rules: Rules, tensors: Mapping[str, Any], kernel: Callable[[np.ndarray], Any]
) -> Match:
    """Finds the official tensor of each place of a tree.

    Args:
        expected: a tree of anything that has a shape.
        rules: the table of names.
        tensors: official names to arrays.
        kernel: brings an official kernel into our layout.

    Returns:
        What fits, and what does not.
    """
    found = Match(expected, {}, {}, {}, [], [])
    used = set()
    for place, leaf in places(expected).items():
        name = rules.official_name(place)
        if name not in tensors:
            found.missing[place] = name
            continue
        used.add(name)
        value = np.asarray(tensors[name], np.float32)
        value = kernel(value) if place.endswith("kernel") else value
        if value.shape == leaf.shape:
            found.taken[place] = name, value
        else:
            found.misshapen[place] = name, value.shape
    for name in tensors:
        if name not in used:
            (found.unused if re.search(rules.unused, name) else found.left_over).append(name)
    return found


def take_over(
    expected: Any, rules: Rules, tensors: Mapping[str, Any], kernel: Callable[[np.ndarray], Any]
) -> Any:
    """Fills a tree with official tensors, each used exactly once.

    Args:
        expected, rules, tensors, kernel: as for `match`.

    Returns:
        The tree, of float32 NumPy arrays.

    Raises:
        InputError: some are missing, left over or of another shape; it names them.
    """
    return match(expected, rules, tensors, kernel).tree()


def some(names: Sequence[str], count: int = 5) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
