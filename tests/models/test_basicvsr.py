"""BasicVSR as a whole network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recurrent

from jaxvsr import models
from jaxvsr.weights.basicvsr import BASICVSR as RULES

TINY = {"dim": 8, "depth": 1, "features_hr": 8}


@functools.cache
def official():
    return recurrent.official("basicvsr_tiny", "basicvsr", dim=16, depth=2)


def test_golden():
    keys = ("feat_forward_trunk", "feat_backward_trunk")
    recurrent.assert_golden(official(), keys, in_call_order=("feat_backward_trunk",))


@pytest.mark.slow
def test_gradients_golden():
    recurrent.assert_gradients_golden(official(), RULES.official_name)


def test_parameter_count_is_the_published():
    assert recurrent.parameter_count("basicvsr") == 6_291_311


@pytest.fixture(scope="module")
def tiny():
    return recurrent.Tiny(models.create("basicvsr", **TINY, align=False))


def test_clips_of_a_batch_do_not_meet(tiny):
    tiny.assert_clips_do_not_meet()


def test_speed_settings_change_neither_parameters_nor_result(tiny):
    tiny.assert_speed_settings_change_nothing()


def test_every_frame_reaches_every_frame(tiny):
    other = tiny.lq.at[:, -1].add(0.1)
    change = np.abs(tiny.apply(tiny.variables, other) - tiny.apply(tiny.variables, tiny.lq))
    assert (change.max((0, 2, 3, 4)) > 1e-4).all()


def test_a_single_frame_and_bfloat16_work(tiny):
    tiny.assert_single_frame_and_bfloat16_work()


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_other_scales(scale):
    model = models.create("basicvsr", **TINY, scale=scale)
    sr, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((1, 2, 40, 48, 3)))
    assert sr.shape == (1, 2, 40 * scale, 48 * scale, 3)
