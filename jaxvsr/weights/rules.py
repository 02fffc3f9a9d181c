"""Tables of official tensor names, and conversion of tensors by them."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxvsr.errors import InputError
from jaxvsr.weights.tensors import as_array


@dataclasses.dataclass(frozen=True)
class Rules:
    """The table of names of one model.

    Attributes:
        names: (pattern, replacement) pairs of `re.sub`. Applied one after the other, they convert
            the path of a leaf in our tree ("head/upconv1/kernel") to the official name.
        unused: pattern of optional official tensors that are not converted: buffers, and layers
            that the official code never uses.
    """

    names: tuple[tuple[str, str | Callable[[re.Match], str]], ...]
    unused: str = r"(?!)"

    def official_name(self, place: str) -> str:
        """Official name of a leaf of our tree."""
        for pattern, replacement in self.names:
            place = re.sub(pattern, replacement, place)
        return place


@dataclasses.dataclass(frozen=True)
class Match:
    """Result of comparing official tensors with a model.

    Attributes:
        expected: the model's variables, a tree of arrays or shapes.
        taken: path in the tree -> official name and float32 tensor in our layout.
        missing: path -> official name of a missing tensor.
        misshapen: path -> official name of a tensor of another shape, and that shape.
        left_over: official names that the model does not have.
        unused: official names that are optional.
    """

    expected: Any
    taken: dict[str, tuple[str, np.ndarray]]
    missing: dict[str, str]
    misshapen: dict[str, tuple[str, tuple[int, ...]]]
    left_over: list[str]
    unused: list[str]

    @property
    def fraction(self) -> float:
        """Fraction of matching tensors among all tensors of the file and of the model."""
        others = len(self.missing) + len(self.misshapen) + len(self.left_over)
        return len(self.taken) / max(len(self.taken) + others, 1)

    def tree(self) -> Any:
        """Returns the variables with the official values.

        Raises:
            InputError: tensors that are missing, left over or of another shape, or not finite.
        """
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
        wrong = [name for name, value in self.taken.values() if not np.isfinite(value).all()]
        if wrong:
            raise InputError(f"NaN or infinity in {some(wrong)}: these weights are damaged")
        values = [self.taken[place][1] for place in leaves]
        return jax.tree.unflatten(jax.tree.structure(self.expected), values)


def places(tree: Any) -> dict[str, Any]:
    """Leaves of a model's variables by path, such as "head/upconv1/kernel"."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/").removeprefix("params/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def match(
    expected: Any, rules: Rules, tensors: Mapping[str, Any], kernel: Callable[[np.ndarray], Any]
) -> Match:
    """Finds the official tensor of each leaf of a tree.

    Args:
        expected: a tree of arrays or shapes.
        rules: the table of names.
        tensors: official names to arrays.
        kernel: transposes an official kernel to our layout.

    Returns:
        Matching tensors, and all others.
    """
    found = Match(expected, {}, {}, {}, [], [])
    used = set()
    for place, leaf in places(expected).items():
        name = rules.official_name(place)
        if name not in tensors:
            found.missing[place] = name
            continue
        used.add(name)
        value = as_array(name, tensors[name])
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
    """Fills a tree with official tensors, using each exactly once.

    Args:
        expected, rules, tensors, kernel: as for `match`.

    Returns:
        The tree of float32 NumPy arrays.

    Raises:
        InputError: tensors that are missing, left over or of another shape.
    """
    return match(expected, rules, tensors, kernel).tree()


def some(names: Sequence[str], count: int = 5) -> str:
    """Lists the first names, and the number of others."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
