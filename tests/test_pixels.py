"""Integers and floats, and the cubic kernel."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr.pixels import cubic_kernel, to_8_bits, to_16_bits, to_integers


@pytest.mark.parametrize("xp", [np, jnp])
def test_halves_are_rounded_to_even(xp):
    x = xp.asarray(np.array([-1, 0, 0.5 / 255, 1.5 / 255, 2.5 / 255, 1, 2], np.float32))
    found = np.asarray(to_integers(x))
    assert found.dtype == np.uint8 and found.tolist() == [0, 0, 0, 2, 2, 255, 255]
    assert np.asarray(to_integers(x, np.uint16))[-2:].tolist() == [65535, 65535]


def test_bit_depths():
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_8_bits(to_16_bits(every)), every)
    assert to_16_bits(every)[[0, 255]].tolist() == [0, 65535]
    assert to_8_bits(np.array([128, 129], np.uint16)).tolist() == [0, 1]  # 128.5 is the half
    assert to_8_bits(every) is every


@pytest.mark.parametrize("a", [-0.5, -0.75])
def test_the_cubic_kernel_interpolates(a):
    np.testing.assert_array_equal(cubic_kernel(np.array([0.0, 1, 2, 3, -1]), a), [1, 0, 0, 0, 0])
    shifts = np.linspace(0, 1, 11)[:, None] + np.arange(-2, 2)
    np.testing.assert_allclose(cubic_kernel(shifts, a).sum(1), 1, atol=1e-12)
