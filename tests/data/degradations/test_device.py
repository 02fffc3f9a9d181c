"""Degradations of JAX arrays, compared with the host's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr.data import degradations as host
from jaxvsr.data.degradations import device

KERNELS = np.stack([host.gaussian_kernel(9, 2.0, 0.8, 0.4), host.sinc_kernel(9, 1.5)])
CALLS = {
    "imresize/4": lambda m, x: m.imresize(x, 1 / 4),
    "imresize/3": lambda m, x: m.imresize(x, 1 / 3),
    "imresize*3": lambda m, x: m.imresize(x, 3),
    "bd": lambda m, x: m.blur_downsample(x, "bd"),
    "duf": lambda m, x: m.blur_downsample(x, "duf", 3),
    "tecogan": lambda m, x: m.blur_downsample(x, "tecogan"),
    "blur": lambda m, x: m.blur(x, KERNELS[0]),
    "blurs": lambda m, x: m.blur(x, KERNELS),
    "usm_sharp": lambda m, x: m.usm_sharp(x, size=21),
    "jpeg_dct": lambda m, x: m.jpeg_dct(x, np.array([40, 75])),
}


def frames(dtype=np.uint8):
    """Smooth frames (2, 50, 45, 3) with one edge and a little noise."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(2, 7, 6, 3)).repeat(8, axis=1).repeat(8, axis=2)[:, :50, :45]
    x = host.blur(x, host.gaussian_kernel(7, 1.5))
    x[:, 20:30, 10:20] = 1
    x = np.clip(x + rng.normal(0, 0.01, x.shape), 0, 1)
    return np.round(255 * x).astype(np.uint8) if dtype == np.uint8 else x.astype(dtype)


@pytest.mark.parametrize("name", CALLS)
def test_floats_agree_with_the_host(name):
    x = frames(np.float32)
    expected = CALLS[name](host, x)
    actual = jax.jit(lambda x: CALLS[name](device, x))(x)
    assert isinstance(actual, jax.Array) and actual.dtype == jnp.float32
    # By way of the Fourier transform rounding errors are of the brightest pixels.
    bar = 5e-7 if name in ("blur", "blurs", "usm_sharp") else 2e-7
    assert reference.relative_error(actual, expected) < bar
    assert np.abs(actual - expected).max() < 5 * bar


@pytest.mark.parametrize("name", CALLS)
def test_bytes_agree_but_for_ties(name):
    x = frames()
    expected = CALLS[name](host, x)
    actual = np.asarray(jax.jit(lambda x: CALLS[name](device, x))(x))
    assert actual.dtype == np.uint8 and actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected).max() <= 1
    assert (actual != expected).mean() < 1e-3


def test_degradations_differ_only_where_the_exact_value_is_a_tie():
    x = frames()
    for kind in ("bd", "duf", "tecogan"):
        exact = host.blur_downsample(x.astype(np.float64), kind)
        different = np.asarray(device.blur_downsample(x, kind)) != host.blur_downsample(x, kind)
        assert (np.abs(exact - np.floor(exact) - 0.5)[different] < 1e-4).all()


def test_golden_bytes_on_the_device():
    _, _, arrays = reference.load("degrade_bd")
    for kind in ("bd", "duf"):
        small = device.blur_downsample(arrays["in"], kind)
        np.testing.assert_array_equal(small, arrays[f"{kind}/x4_u8"])
    _, _, arrays = reference.load("degrade_bicubic")
    for name in ("smooth", "ragged", "noise"):
        small = device.imresize(arrays[f"in/{name}"], 1 / 4)
        np.testing.assert_array_equal(small, arrays[f"out_u8/{name}/x0.25"])


def test_sigma_and_quality_may_be_traced():
    x = frames(np.float32)

    @jax.jit
    def degrade(x, sigma, quality, key):
        return device.jpeg_dct(device.add_noise(x, sigma, key), quality)

    key = jax.random.key(0)
    noisy = device.add_noise(x, np.array([5.0, 20.0]), key)
    levels = 255 * np.asarray(noisy - x).std((1, 2, 3))
    np.testing.assert_allclose(levels, [5, 20], rtol=0.05)
    result = degrade(x, jnp.array([5.0, 20.0]), jnp.array([30.0, 80.0]), key)
    assert (
        reference.relative_error(result, host.jpeg_dct(np.asarray(noisy), np.array([30, 80])))
        < 1e-3
    )


def test_noise_maps_agree_with_the_host():
    x = frames(np.float32)
    sigma = np.array([5.0, 20.0])
    lq = jax.jit(device.with_noise_map)(x, sigma)
    np.testing.assert_allclose(lq, host.with_noise_map(x, sigma), rtol=1e-6)
    assert device.with_noise_map(x.astype(jnp.bfloat16), 5).dtype == jnp.bfloat16


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: device.imresize(x, 0), ValueError, "scale"),
        (lambda x: device.imresize(x.astype(jnp.int32), 1 / 4), TypeError, "int32"),
        (lambda x: device.blur_downsample(x, "MATLAB"), ValueError, "'bd'"),
        (lambda x: device.blur(x, np.ones((2, 2))), ValueError, "odd k"),
        (lambda x: device.add_noise(x, np.ones(3), jax.random.key(0)), ValueError, "sigma"),
        (lambda x: device.jpeg_dct(x[..., :2], 50), ValueError, "RGB"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call(jnp.zeros((2, 8, 8, 3)))
