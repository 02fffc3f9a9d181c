"""Losses against their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr.training.losses import charbonnier


@pytest.mark.parametrize("eps", [1e-12, 1e-6, 1e-2])
def test_charbonnier_is_the_mean_over_pixels_of_each_frame(eps):
    rng = np.random.default_rng(0)
    sr, gt = rng.random((2, 2, 3, 4, 5, 3))
    expected = np.sqrt((sr - gt) ** 2 + eps).mean((2, 3, 4))
    loss = charbonnier(jnp.float32(sr), jnp.float32(gt), eps)
    assert loss.shape == (2, 3) and loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_charbonnier_has_a_gradient_where_the_output_is_right():
    x = jnp.full((1, 1, 2, 2, 3), 0.5)
    gradient = jax.grad(lambda sr: charbonnier(sr, x).sum())(x)
    np.testing.assert_array_equal(gradient, 0)


def test_charbonnier_is_computed_in_float32():
    gt = jnp.zeros((1, 1, 8, 8, 3))
    sr = jnp.full(gt.shape, 1 / 3, jnp.bfloat16)
    np.testing.assert_allclose(charbonnier(sr, gt), np.float32(sr[0, 0, 0, 0, 0]), rtol=1e-6)
