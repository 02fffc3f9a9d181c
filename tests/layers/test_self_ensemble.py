"""The mean over eight orientations, against their definition."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr.layers.self_ensemble import self_ensemble


def network(x):
    """Depends on the place and on the direction: not the same after any flip or transpose."""
    h, w = x.shape[-3:-1]
    place = jnp.arange(h)[:, None, None] ** 2 + 3 * jnp.arange(w)[:, None]
    sr = x + jnp.roll(x, 1, -3) * jnp.roll(x, 2, -2) + place
    return [jnp.repeat(jnp.repeat(sr, 2, -3), 2, -2), x[..., :1] * place]


def test_the_mean_over_flips_and_transposes():
    x = np.random.default_rng(0).random((1, 2, 4, 6, 3), np.float32)
    found = jax.jit(lambda x: self_ensemble(network, x))(x)
    every = []
    for rows, columns, transposed in itertools.product((1, -1), (1, -1), (False, True)):

        def turn(y, rows=rows, columns=columns, transposed=transposed):
            return (y.swapaxes(-3, -2) if transposed else y)[..., ::rows, ::columns, :]

        def back(y, rows=rows, columns=columns, transposed=transposed):
            y = y[..., ::rows, ::columns, :]
            return y.swapaxes(-3, -2) if transposed else y

        np.testing.assert_array_equal(back(turn(x)), x)
        every.append([back(np.asarray(y)) for y in network(turn(x))])
    for i, y in enumerate(found):
        outputs = [each[i] for each in every]
        assert len({output.tobytes() for output in outputs}) == 8
        np.testing.assert_allclose(y, np.mean(outputs, 0), rtol=1e-5)
