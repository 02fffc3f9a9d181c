"""RVRT-Light: what is not RVRT's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recurrent
import reference

from jaxvsr import models
from jaxvsr.models.rvrt_light import NeighborhoodAttention, columns
from jaxvsr.weights.rvrt import RVRT_LIGHT as RULES


@functools.cache
def official():
    fields = {"dim": 24, "num_heads": (3, 3, 3), "attention_heads": 6}
    return recurrent.official("rvrt_light_tiny", "rvrt_light", **fields)


def test_golden():
    recurrent.assert_golden(official(), ("feat_forward_2",), bar=1e-5)


@pytest.mark.slow
def test_gradients_golden():
    case = official()
    gt = case.lq.repeat(4, axis=2).repeat(4, axis=3)
    recurrent.assert_gradients_golden(case, RULES.official_name, gt, eps=1e-9)


def test_parameters_and_their_names_are_the_published():
    model = models.create("rvrt_light")
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, 64, 64, 3)))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 8_456_755
    places = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
    assert len(places) == 354
    assert sorted(map(RULES.official_name, places)) == sorted(reference.load("rvrt_light_tiny")[1])


def test_neighbors_are_those_of_both_frames_and_zero_outside():
    attention = NeighborhoodAttention(dim=1, num_heads=1, window=(3, 3), dtype=jnp.float32)
    x = 1 + jnp.arange(2 * 4 * 5.0).reshape(1, 2, 4, 5, 1)
    points = columns(attention.apply({}, x, method="rows"), 5)[None]
    assert points.shape == (1, 4, 5, 18, 1)
    np.testing.assert_array_equal(
        np.sort(points[0, 2, 3, :, 0]), np.sort(x[0, :, 1:4, 2:5].ravel())
    )
    corner = np.sort(points[0, 0, 4, :, 0])
    np.testing.assert_array_equal(corner[10:], np.sort(x[0, :, :2, 3:].ravel()))
    assert not corner[:10].any()
