import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr import models, weights
from jaxvsr.losses import charbonnier
from jaxvsr.weights.mobile import MOBILE_RRN


@functools.cache
def official():
    manifest, tensors, arrays = reference.load("mobile_rrn_tiny")
    variables = weights.from_tf("mobile_rrn", tensors)
    return manifest, variables, arrays, jnp.asarray(arrays["lq"] / np.float32(255))


def test_golden():
    manifest, variables, arrays, lq = official()
    sr = 255 * jax.jit(models.create("mobile_rrn").apply)(variables, lq)
    reference.assert_frames(sr, manifest, arrays, "train/sr", 1e-5)
    reference.assert_frames(np.clip(sr, 0, 255), manifest, arrays, "sr", 1e-5)


def test_gradients_golden():
    manifest, variables, arrays, lq = official()
    gt = 255 * lq.repeat(4, axis=2).repeat(4, axis=3)

    @jax.jit
    @jax.value_and_grad
    def gradient(variables):
        sr = 255 * models.create("mobile_rrn").apply(variables, lq, train=True)
        return charbonnier(sr, gt, eps=1e-6).mean(0).sum()

    loss, gradients = gradient(variables)
    assert float(loss) == pytest.approx(float(arrays["train/loss"]), rel=1e-5)
    reference.assert_gradients(
        gradients["params"], MOBILE_RRN.official_name, manifest, arrays, 1e-3, kernel=lambda x: x
    )


def test_hidden_state_golden():
    manifest, variables, arrays, lq = official()
    model = models.create("mobile_rrn")
    step = jax.jit(functools.partial(model.apply, method="step"))
    state, hidden = model.initial_state(lq[:, 0].shape), []
    for t in range(lq.shape[1]):
        _, state = step(variables, state, lq[:, [max(t - 1, 0), t]])
        hidden.append(state)
    reference.assert_frames(np.stack(hidden, axis=1), manifest, arrays, "hidden", 1e-5)


@pytest.mark.parametrize(("dim", "count"), [(16, 35_664), (32, 126_576), (64, 474_288)])
def test_parameter_count(dim, count):
    model = models.create("mobile_rrn", dim=dim)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, 8, 8, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count
