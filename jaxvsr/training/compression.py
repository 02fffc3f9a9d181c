"""Pruned and clustered kernels, whose files compress well, and training that keeps them so.

A pruned kernel has zeros and a clustered one has few distinct values. Both are read off the kernel
itself, so a training keeps no other state: zeros stay zero, and equal values stay equal.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

ITERATIONS = 30  # of k-means


def compress(params: Any, prune: float = 0.0, clusters: int = 0) -> Any:
    """Prunes kernels by magnitude, then clusters their values.

    Args:
        params: a tree of arrays; kernels are the leaves named "kernel".
        prune: fraction of each kernel's values that become zero, the smallest ones.
        clusters: number of distinct values that each kernel keeps; zeros count as one and stay
            zero. 0: all values.

    Returns:
        The tree with NumPy arrays as kernels.
    """

    def apply(kernel: Any) -> np.ndarray:
        values = np.asarray(kernel).copy()
        if prune:
            smallest = np.argsort(np.abs(values), axis=None, kind="stable")
            values.flat[smallest[: round(prune * values.size)]] = 0
        return _cluster(values, clusters) if clusters else values

    return _map_kernels(apply, params)


def keep_compressed(
    optimizer: optax.GradientTransformation, prune: float = 0.0, clusters: int = 0
) -> optax.GradientTransformation:
    """Makes an optimizer keep zeros and clusters of kernels.

    Args:
        optimizer: of the parameters.
        prune, clusters: as in `compress`; if both are 0, the optimizer is returned. Otherwise zeros
            of kernels stay zero, and with `clusters` equal values of a kernel stay equal: each
            cluster is updated by the mean gradient of its members.
    """
    if not prune and not clusters:
        return optimizer

    def tie(updates: Any, params: Any) -> Any:
        return _map_kernels(lambda u, k: _tie(u, k, clusters) if clusters else u, updates, params)

    def keep_zeros(update: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.where(kernel == 0, 0, update)

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = optimizer.update(tie(grads, params), state, params)
        # Tied again, since rounding may differ between the members of a cluster.
        updates = tie(updates, params)
        return _map_kernels(keep_zeros, updates, params), state

    return optax.GradientTransformation(optimizer.init, update)


def _cluster(values: np.ndarray, count: int) -> np.ndarray:
    """Rounds values to centroids of k-means that starts with equal distances."""
    member = values != 0 if (values == 0).any() else np.ones(values.shape, bool)
    kept = values[member]
    count -= not member.all()
    if len(np.unique(kept)) <= count:
        return values
    centroids = np.linspace(kept.min(), kept.max(), count)
    for _ in range(ITERATIONS):
        nearest = np.abs(kept[:, None] - centroids).argmin(1)
        sizes = np.bincount(nearest, minlength=count)
        sums = np.bincount(nearest, kept, minlength=count)
        centroids = np.where(sizes, sums / np.maximum(sizes, 1), centroids)
    centroids = np.where(centroids == 0, np.finfo(np.float32).tiny, centroids)
    out = values.copy()
    out[member] = centroids[np.abs(kept[:, None] - centroids).argmin(1)]
    return out


def _tie(update: jax.Array, kernel: jax.Array, count: int) -> jax.Array:
    """Replaces updates of equal values by their mean."""
    flat = kernel.ravel()
    distinct = jnp.unique(flat, size=min(count, flat.size))
    member = jnp.searchsorted(distinct, flat)
    sums = jax.ops.segment_sum(update.ravel(), member, len(distinct))
    sizes = jax.ops.segment_sum(jnp.ones_like(flat), member, len(distinct))
    return (sums / jnp.maximum(sizes, 1))[member].reshape(kernel.shape)


def _map_kernels(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Applies a function to the leaves named "kernel"; other leaves of the first tree stay."""

    def apply(path: tuple, leaf: Any, *others: Any) -> Any:
        return function(leaf, *others) if path and path[-1].key == "kernel" else leaf

    return jax.tree_util.tree_map_with_path(apply, tree, *rest)
