import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr import models, weights
from jaxvsr.losses import charbonnier
from jaxvsr.weights.swrn import SWRN as RULES


@functools.cache
def official():
    manifest, tensors, arrays = reference.load("mobile_swrn_tiny")
    variables = weights.from_tf("swrn", tensors)
    return manifest, variables, arrays, jnp.asarray(arrays["lq"] / np.float32(255))


def test_golden():
    manifest, variables, arrays, lq = official()
    sr = 255 * jax.jit(models.create("swrn").apply)(variables, lq)
    reference.assert_frames(sr, manifest, arrays, "train/sr", 1e-4)
    reference.assert_frames(np.clip(sr, 0, 255), manifest, arrays, "sr", 1e-4)


def test_gradients_golden():
    manifest, variables, arrays, lq = official()
    gt = 255 * lq.repeat(4, axis=2).repeat(4, axis=3)

    @jax.jit
    @jax.value_and_grad
    def gradient(variables):
        sr = 255 * models.create("swrn").apply(variables, lq)
        return charbonnier(sr, gt, eps=1e-6).mean(0).sum()

    loss, gradients = gradient(variables)
    assert float(loss) == pytest.approx(float(arrays["train/loss"]), rel=1e-4)
    reference.assert_gradients(
        gradients["params"], RULES.official_name, manifest, arrays, 1e-3, kernel=lambda x: x
    )


def test_frame_by_frame_equals_the_clip():
    manifest, variables, arrays, lq = official()
    model = models.create("swrn")
    whole = model.apply(variables, lq)
    step = jax.jit(functools.partial(model.apply, method="step"))
    state = model.initial_state(lq[:, 0].shape)
    hidden, last = [], lq.shape[1] - 1
    for t in range(last + 1):
        frames = lq[:, [max(t - 1, 0), t, min(t + model.lookahead, last)]]
        sr, state = step(variables, state, frames)
        np.testing.assert_allclose(sr, whole[:, t], atol=1e-6)
        hidden.append(state)
    hidden = np.stack(hidden, axis=1)
    reference.assert_frames(hidden, manifest, arrays, "hidden", 1e-4)


def test_parameter_count():
    lq = jnp.zeros((1, 2, 8, 8, 3))
    variables = jax.eval_shape(models.create("swrn").init, jax.random.key(0), lq)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 43_472
