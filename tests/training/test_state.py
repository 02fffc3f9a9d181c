"""The initial state of a training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvsr import models
from jaxvsr.training.state import Weights, initial_state, initial_weights

MODEL = models.create("swrn", dim=4, num_blocks=1)


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def test_the_same_seed_gives_the_same_weights():
    first, again, other = (initial_state(MODEL, optax.adam(1e-3), seed, True) for seed in (3, 3, 4))
    assert equal(first.weights, again.weights) and not equal(first.weights, other.weights)
    assert int(first.step) == 0
    assert jnp.array_equal(jax.random.key_data(first.rng), jax.random.key_data(again.rng))


def test_the_average_starts_as_the_parameters_in_arrays_of_its_own():
    weights = initial_weights(MODEL, jax.random.key(0), ema=True)
    assert equal(weights.params, weights.ema)
    pairs = zip(jax.tree.leaves(weights.params), jax.tree.leaves(weights.ema), strict=True)
    assert all(a is not b for a, b in pairs)
    assert initial_weights(MODEL, jax.random.key(0), ema=False).ema == {}


def test_a_model_is_applied_with_the_average_if_there_is_one():
    params, average = {"w": jnp.ones(2)}, {"w": jnp.zeros(2)}
    assert Weights(params, {}, {}).variables == {"params": params}
    statistics = {"mean": jnp.ones(2)}
    assert Weights(params, statistics, average).variables == {
        "params": average,
        "batch_stats": statistics,
    }


def test_parameters_are_float32_whatever_the_dtype_of_the_computation():
    model = MODEL.clone(dtype="bfloat16")
    leaves = jax.tree.leaves(initial_weights(model, jax.random.key(0), False).params)
    assert leaves and all(leaf.dtype == jnp.float32 for leaf in leaves)
