import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr.layers.window_chunks import map_chunks


def attend(weights, windows):
    """Something of whole windows, and of a number for each."""
    x, key = windows
    return x + key[:, None, None], jax.nn.softmax(x @ jnp.swapaxes(x, 1, 2)) @ (weights * x)


@pytest.mark.parametrize(("n", "clips"), [(1, 1), (9, 1), (39, 3), (20, 10)])
def test_chunks_have_the_result_and_the_gradient_of_the_whole(n, clips):
    keys = jax.random.split(jax.random.key(n))
    windows = jax.random.normal(keys[0], (n, 6, 3)), jnp.arange(float(n))
    direction = jax.random.normal(keys[1], (n, 6, 3))

    def total(run, windows):
        return (run(attend, jnp.float32(2), windows)[1] * direction).sum()

    whole, chunked = (
        jax.jit(jax.value_and_grad(functools.partial(total, run)))(windows)
        for run in (lambda f, *args: f(*args), functools.partial(map_chunks, clips=clips))
    )
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(chunked), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("platform", "largest", "iterations"),
    [
        *[("cpu", 36, 15), ("tpu", 36, 3), ("cuda", 36, None)],
        *[("cpu", 2**20, 60), ("tpu", 2**20, 8), ("tpu", 2**25, 120)],
    ],
)
def test_platform_and_largest_array_decide_the_size_of_a_chunk(platform, largest, iterations):
    windows = jnp.zeros((120, 6, 3)), jnp.zeros(120)
    chunked = functools.partial(map_chunks, attend, largest=largest)
    program = jax.jit(chunked).trace(jnp.float32(2), windows)
    text = program.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.while" in text) == (iterations is not None)
    if iterations:
        assert re.search(rf"dense<{iterations}> : tensor<i32>", text)
