"""Geometric self-ensemble: the mean of a network's outputs for eight orientations of its input."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

FLIPS = ((False, False), (False, True), (True, False), (True, True))  # of rows, of columns


def self_ensemble(
    function: Callable[[jax.Array], Any], clips: Float[jax.Array, "b t h w c"]
) -> Any:
    """Averages a network's outputs for all flips and transposes of its input, turned back.

    The network is compiled twice, for both orientations, and runs one input at a time.

    Args:
        function: the network; its outputs are a tree of (b, t, s*h, s*w, c), of any scale s.
        clips: (b, t, h, w, c).

    Returns:
        A tree of means, each (b, t, s*h, s*w, c).

    Source: Lim et al., "Enhanced deep residual networks for single image super-resolution", 2017,
        section 3.4.
    """
    sums = []
    for oriented in (_same, _transposed):
        turned = oriented(clips)

        def add(total: Any, flips: jax.Array, turned: jax.Array = turned) -> tuple[Any, None]:
            outputs = _flipped(function(_flipped(turned, flips)), flips)
            return jax.tree.map(jnp.add, total, outputs), None

        shapes = jax.eval_shape(function, turned)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        total, _ = jax.lax.scan(add, zeros, jnp.array(FLIPS))
        sums.append(jax.tree.map(oriented, total))
    return jax.tree.map(lambda x, y: (x + y) / (2 * len(FLIPS)), *sums)


def _same(x: jax.Array) -> jax.Array:
    return x


def _transposed(x: jax.Array) -> jax.Array:
    return x.swapaxes(-3, -2)


def _flipped(tree: Any, flips: jax.Array) -> Any:
    """Flips rows (flips[0]) and columns (flips[1]) of each array (..., h, w, c)."""

    def flip(x: jax.Array) -> jax.Array:
        x = jnp.where(flips[0], x[..., ::-1, :, :], x)
        return jnp.where(flips[1], x[..., ::-1, :], x)

    return jax.tree.map(flip, tree)
