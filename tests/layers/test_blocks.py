import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr.layers import blocks
from jaxvsr.layers.convolution import same_conv

MANIFEST, TENSORS, ARRAYS = reference.load("op_misc")


class LayerNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return blocks.layer_norm(x, name="norm")


def test_layer_norm_golden():
    scale = np.float32([1e-4, 1e-3, 1e-2, 1e-1, 1, 30])[:, None]
    params = {"norm": {"scale": TENSORS["ln.weight"], "bias": TENSORS["ln.bias"]}}
    out = LayerNorm().apply({"params": params}, jnp.asarray(TENSORS["ln.x"] * scale + 0.5))
    assert reference.relative_error(out, ARRAYS["layer_norm"]) < 1e-5


def test_activations_golden():
    x = jnp.asarray(TENSORS["act.x"])
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


@pytest.mark.parametrize("groups", [1, 3])
def test_convolution_and_its_gradients_in_groups(groups):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 7, 6)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 6 // groups, 9)).astype(np.float32)
    r = rng.normal(size=(2, 5, 7, 9)).astype(np.float32)

    def ours(x, kernel):
        out = same_conv(x, kernel, 1, "SAME", precision=None, feature_group_count=groups)
        return (out * r).sum()

    def plain(x, kernel):
        how = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}
        return (jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", **how) * r).sum()

    for actual, expected in zip(
        jax.tree.leaves(jax.value_and_grad(ours, argnums=(0, 1))(x, kernel)),
        jax.tree.leaves(jax.value_and_grad(plain, argnums=(0, 1))(x, kernel)),
        strict=True,
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kernel_size", "settings", "named"),
    [
        (3, {"strides": 2}, r"strides=\(2, 2\)"),
        (3, {"strides": (1, 2)}, r"strides=\(1, 2\)"),
        (3, {"kernel_dilation": 2}, r"kernel_dilation=\(2, 2\)"),
        (3, {"input_dilation": 2}, r"input_dilation=\(2, 2\)"),
        (3, {"padding": "VALID"}, "padding='VALID'"),
        (2, {}, r"kernel_size=\(2, 2\)"),
    ],
)
def test_conv_refuses_what_it_does_not_compute(kernel_size, settings, named):
    conv = blocks.Conv(4, (kernel_size, kernel_size), **settings)
    with pytest.raises(ValueError, match=named):
        conv.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


@pytest.mark.parametrize("outlier", [0, 300.0, -1e5])
@pytest.mark.parametrize("offset", [0, 1e4])
def test_norms_are_exact_with_outliers_and_offsets(outlier, offset):
    x = np.random.default_rng(0).normal(size=(64, 120)).astype(np.float32) + np.float32(offset)
    x[:, 0] += outlier
    centered = np.float64(x) - np.float64(x).mean(-1, keepdims=True)
    expected = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
    x, module = jnp.asarray(x), LayerNorm()
    for out in (module.apply(module.init(jax.random.key(0), x), x), blocks.normalize(x)):
        error = np.abs(np.float64(out) - expected)[:, 1:]
        assert np.linalg.norm(error) < 3e-7 * np.linalg.norm(expected[:, 1:])
