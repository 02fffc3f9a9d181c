import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr import models
from jaxvsr.data.degradations import imresize


def enlarge(frames, scale):
    model = models.create("bicubic", scale=scale)
    assert not jax.tree.leaves(model.init(jax.random.key(0), frames))
    return jax.jit(lambda lq: model.apply({}, lq))(frames)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(12, 17), (3, 2)])
def test_it_is_the_baseline(scale, size):
    lq = np.random.default_rng(0).random((2, 3, *size, 3), np.float32)
    sr = enlarge(lq, scale)
    assert sr.dtype == jnp.float32 and sr.shape == (2, 3, scale * size[0], scale * size[1], 3)
    np.testing.assert_allclose(sr, imresize(lq, scale), atol=2e-6)


def test_golden():
    _, _, arrays = reference.load("degrade_bicubic")
    lq = arrays["in/ragged"][None, None] / np.float32(255)
    sr = enlarge(lq, 4)[0, 0]
    np.testing.assert_allclose(sr[:32, :32], arrays["out_tl/ragged/x4"], atol=2e-6)
    np.testing.assert_allclose(sr[-32:, -32:], arrays["out_br/ragged/x4"], atol=2e-6)
