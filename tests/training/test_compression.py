"""Pruned and clustered kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvsr.training.compression import compress, keep_compressed


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    return {
        "conv": {
            "kernel": rng.normal(size=(3, 3, 8, 16)).astype(np.float32),
            "bias": rng.normal(size=16).astype(np.float32),
        }
    }


def test_half_of_a_kernel_is_pruned_and_the_largest_values_stay(params):
    dense, pruned = params["conv"]["kernel"], compress(params, prune=0.5)["conv"]["kernel"]
    zero = pruned == 0
    assert zero.mean() == 0.5
    assert np.abs(dense[zero]).max() < np.abs(dense[~zero]).min()
    np.testing.assert_array_equal(pruned[~zero], dense[~zero])


def test_biases_stay(params):
    changed = compress(params, prune=0.5, clusters=4)
    np.testing.assert_array_equal(changed["conv"]["bias"], params["conv"]["bias"])


@pytest.mark.parametrize("prune", [0.0, 0.5])
def test_values_are_rounded_to_the_nearest_cluster(params, prune):
    pruned = compress(params, prune)["conv"]["kernel"]
    clustered = compress(params, prune, clusters=10)["conv"]["kernel"]
    assert len(np.unique(clustered)) == 10
    np.testing.assert_array_equal(clustered == 0, pruned == 0)
    values, kept = np.setdiff1d(clustered, [0] if prune else []), pruned != 0
    nearest = np.abs(pruned[kept][:, None] - values).min(1)
    np.testing.assert_allclose(np.abs(pruned - clustered)[kept], nearest, atol=1e-6)


def test_a_kernel_of_few_values_stays(params):
    once = compress(params, 0.5, 10)
    np.testing.assert_array_equal(compress(once, 0.5, 10)["conv"]["kernel"], once["conv"]["kernel"])


@pytest.mark.parametrize(("prune", "clusters"), [(0.5, 0), (0.5, 10), (0.0, 10)])
def test_training_keeps_zeros_and_clusters(params, prune, clusters):
    start = compress(params, prune, clusters)
    optimizer = keep_compressed(optax.adam(1e-2), prune, clusters)
    target = jax.random.normal(jax.random.key(0), (3, 3, 8, 16))

    @jax.jit
    def step(params, state):
        grads = jax.grad(lambda p: ((p["conv"]["kernel"] - target) ** 2).sum())(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    trained, state = start, optimizer.init(start)
    for _ in range(20):
        trained, state = step(trained, state)
    before, after = start["conv"]["kernel"], np.asarray(trained["conv"]["kernel"])
    assert jnp.linalg.norm(after - target) < 0.99 * jnp.linalg.norm(before - target)
    np.testing.assert_array_equal(after == 0, before == 0)
    if clusters:
        for value in np.unique(before):
            assert len(np.unique(after[before == value])) == 1


def test_without_either_the_optimizer_is_unchanged():
    optimizer = optax.adam(1e-3)
    assert keep_compressed(optimizer) is optimizer
