import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr.layers import blocks

MANIFEST, TENSORS, ARRAYS = reference.load("op_misc")


class LayerNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return blocks.layer_norm(x, name="norm")


def test_layer_norm_golden():
    scale = np.float32([1e-4, 1e-3, 1e-2, 1e-1, 1, 30])[:, None]
    params = {"norm": {"scale": TENSORS["ln.weight"], "bias": TENSORS["ln.bias"]}}
    out = LayerNorm().apply({"params": params}, TENSORS["ln.x"] * scale + 0.5)
    assert reference.relative_error(out, ARRAYS["layer_norm"]) < 1e-5


def test_activations_golden():
    x = TENSORS["act.x"]
    assert reference.relative_error(blocks.gelu(x), ARRAYS["gelu"]) < 1e-6
    assert reference.relative_error(blocks.gelu(x), ARRAYS["gelu_tanh"]) > 1e-5
    assert reference.relative_error(blocks.leaky_relu(x), ARRAYS["lrelu01"]) < 1e-7


def test_torch_uniform_fills_its_range():
    draws = blocks.torch_uniform(25)(jax.random.key(0), (10_000,))
    assert np.abs(draws).max() == pytest.approx(0.2, rel=1e-3)
    assert np.std(draws) == pytest.approx(0.2 / 3**0.5, rel=0.03)


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    x = jnp.ones((4000, 2, 3))
    out = blocks.DropPath(0.25).apply({}, x, rngs={"droppath": jax.random.key(0)})
    assert set(np.unique(out).round(5)) == {0, np.float32(4 / 3).round(5)}
    assert (np.ptp(out, axis=(1, 2)) == 0).all()
    assert np.mean(out) == pytest.approx(1, abs=0.05)


def test_drop_path_without_an_rng_does_nothing():
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(blocks.DropPath(0.9).apply({}, x), x)
