"""SWRN and MobileRRN, beside the official code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr import models, weights
from jaxvsr.training.losses import charbonnier
from jaxvsr.weights.mobile import MOBILE_RRN
from jaxvsr.weights.swrn import SWRN

CASES = {"swrn": ("mobile_swrn_tiny", SWRN), "mobile_rrn": ("mobile_rrn_tiny", MOBILE_RRN)}


@functools.cache
def official(name):
    manifest, tensors, arrays = reference.load(CASES[name][0])
    variables = weights.from_tf(name, tensors)
    lq = jnp.asarray(arrays["lq"] / np.float32(255))
    return models.create(name), variables, manifest, arrays, lq


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    model, variables, manifest, arrays, lq = official(name)
    sr = 255 * jax.jit(model.apply)(variables, lq)
    reference.assert_frames(sr, manifest, arrays, "train/sr", 1e-5)
    reference.assert_frames(np.clip(sr, 0, 255), manifest, arrays, "sr", 1e-5)


@pytest.mark.parametrize("name", CASES)
def test_gradients_golden(name):
    model, variables, manifest, arrays, lq = official(name)
    gt = 255 * lq.repeat(4, axis=2).repeat(4, axis=3)

    @jax.jit
    @jax.value_and_grad
    def gradient(variables):
        sr = 255 * model.apply(variables, lq, train=True)
        return charbonnier(sr, gt, eps=1e-6).mean(0).sum()

    loss, gradients = gradient(variables)
    assert float(loss) == pytest.approx(float(arrays["train/loss"]), rel=1e-5)
    official_name = CASES[name][1].official_name
    reference.assert_gradients(
        gradients["params"], official_name, manifest, arrays, 1e-3, kernel=lambda x: x
    )


@pytest.mark.parametrize("name", CASES)
def test_hidden_state_golden(name):
    model, variables, manifest, arrays, lq = official(name)
    step = jax.jit(functools.partial(model.apply, method="step"))
    state, hidden, last = model.initial_state(lq[:, 0].shape), [], lq.shape[1] - 1
    for t in range(last + 1):
        window = [max(t - 1, 0), t, min(t + 1, last)][: 2 + model.lookahead]
        _, state = step(variables, state, lq[:, window])
        hidden.append(state)
    reference.assert_frames(np.stack(hidden, axis=1), manifest, arrays, "hidden", 1e-5)


@pytest.mark.parametrize(
    ("name", "dim", "count"),
    [
        ("swrn", 16, 43_472),
        ("mobile_rrn", 16, 35_664),
        ("mobile_rrn", 32, 126_576),
        ("mobile_rrn", 64, 474_288),
    ],
)
def test_parameter_count(name, dim, count):
    model = models.create(name, dim=dim)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 8, 8, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count
