"""IconVSR as a whole network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recurrent

from jaxvsr import models
from jaxvsr.models.iconvsr import neighbor_indices
from jaxvsr.weights.iconvsr import ICONVSR as RULES

TINY = {"dim": 8, "depth": 1, "features_hr": 8, "keyframe_stride": 2, "temporal_padding": 1}


@functools.cache
def official():
    return recurrent.official("iconvsr_tiny", "iconvsr", dim=16, depth=2, keyframe_stride=3)


def test_golden():
    recurrent.assert_golden(official(), ("feat_edvr", "feat_forward_trunk"))


@pytest.mark.slow
def test_gradients_golden():
    recurrent.assert_gradients_golden(official(), RULES.official_name)


@pytest.mark.parametrize(("padding", "count"), [(2, 8_694_991), (3, 8_711_375)])
def test_parameter_count_is_the_published(padding, count):
    assert recurrent.parameter_count("iconvsr", temporal_padding=padding) == count


@pytest.mark.parametrize(
    ("padding", "first", "last"),
    [(2, [4, 3, 0, 1, 2], [-3, -2, -1, -4, -5]), (3, [6, 5, 4, 0], [-1, -5, -6, -7])],
)
def test_neighbors_beyond_the_ends_are_those_of_the_official_code(padding, first, last):
    windows = neighbor_indices(9, padding)
    np.testing.assert_array_equal(windows[0][: len(first)], first)
    np.testing.assert_array_equal(windows[-1][-len(last) :] - 9, last)
    np.testing.assert_array_equal(windows[4], np.arange(4 - padding, 5 + padding))


def test_neighbors_in_a_short_clip_are_there():
    np.testing.assert_array_equal(neighbor_indices(2, 1), [[1, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(neighbor_indices(1, 2), np.zeros((1, 5)))


@pytest.fixture(scope="module")
def tiny():
    return recurrent.Tiny(models.create("iconvsr", **TINY, align=False))


def test_clips_of_a_batch_do_not_meet(tiny):
    tiny.assert_clips_do_not_meet()


def test_speed_settings_change_neither_parameters_nor_result(tiny):
    tiny.assert_speed_settings_change_nothing()


def test_key_frames_computed_side_by_side_are_the_same(tiny):
    together = jax.jit(functools.partial(tiny.model.apply, train=True))(tiny.variables, tiny.lq)
    np.testing.assert_allclose(together, tiny.expected, atol=1e-5)


def test_a_single_frame_and_bfloat16_work(tiny):
    tiny.assert_single_frame_and_bfloat16_work()


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_other_scales(scale):
    model = models.create("iconvsr", **TINY, scale=scale)
    sr, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((1, 2, 42, 47, 3)))
    assert sr.shape == (1, 2, 42 * scale, 47 * scale, 3)
