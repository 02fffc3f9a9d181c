"""Noise and its map."""

import numpy as np
import pytest

from jaxvsr.data.degradations import add_noise, with_noise_map


def test_noise_has_the_level_of_its_map():
    frames = np.full((2, 64, 64, 3), 128, np.uint8)
    sigma = np.array([10.0, 40.0])
    noisy = add_noise(frames, sigma, np.random.default_rng(3))
    assert noisy.dtype == np.float32 and noisy.shape == frames.shape
    noise = 255 * (noisy - np.float32(128 / 255))
    np.testing.assert_allclose(noise.std((1, 2, 3)), sigma, rtol=0.03)
    np.testing.assert_allclose(noise.mean((1, 2, 3)), 0, atol=1.5)
    assert noisy.max() > 1  # not clipped
    lq = with_noise_map(noisy, sigma)
    assert lq.shape == (2, 64, 64, 4) and lq.dtype == np.float32
    np.testing.assert_array_equal(lq[..., :3], noisy)
    np.testing.assert_allclose(lq[..., 3], np.broadcast_to(sigma[:, None, None] / 255, (2, 64, 64)))


def test_noise_depends_only_on_the_generator():
    frames = np.zeros((4, 4, 3))
    first = add_noise(frames, 5, np.random.default_rng(4))
    np.testing.assert_array_equal(first, add_noise(frames, 5, np.random.default_rng(4)))
    assert (first != add_noise(frames, 5, np.random.default_rng(5))).all()


FRAMES = np.zeros((2, 8, 8, 3), np.float32)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: add_noise(FRAMES, np.ones(3), np.random.default_rng()), ValueError, "sigma"),
        (lambda: with_noise_map(FRAMES.astype(np.uint8), 5), TypeError, "float"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()
