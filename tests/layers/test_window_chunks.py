import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr.layers.window_chunks import map_chunks


def attend(weights, windows):
    """Something of whole windows, and of a number for each."""
    x, key = windows
    return x + key[:, None, None], jax.nn.softmax(x @ jnp.swapaxes(x, 1, 2)) @ (weights * x)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 40])
def test_chunks_have_the_result_and_the_gradient_of_the_whole(n):
    keys = jax.random.split(jax.random.key(n))
    windows = jax.random.normal(keys[0], (n, 6, 3)), jnp.arange(float(n))
    direction = jax.random.normal(keys[1], (n, 6, 3))

    def total(run, windows):
        return (run(attend, jnp.float32(2), windows)[1] * direction).sum()

    whole, chunked = (
        jax.jit(jax.value_and_grad(functools.partial(total, run)))(windows)
        for run in (lambda f, *args: f(*args), map_chunks)
    )
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(chunked), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
