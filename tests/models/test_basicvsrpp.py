"""BasicVSR++ as a whole network."""

import functools

import jax
import jax.numpy as jnp
import pytest
import recurrent

from jaxvsr import models
from jaxvsr.weights.basicvsrpp import BASICVSRPP as RULES

TINY = {"dim": 8, "depth": 1, "features_hr": 8}
SAME_SIZE = {"is_low_res_input": False, "scale": 1}


@functools.cache
def official():
    return recurrent.official("basicvsrpp_tiny", "basicvsrpp", dim=16, depth=2)


def test_golden():
    keys = ("feat_spatial", "feat_backward_1", "feat_forward_2")
    recurrent.assert_golden(official(), keys)


@pytest.mark.slow
def test_gradients_golden():
    recurrent.assert_gradients_golden(official(), RULES.official_name)


@pytest.mark.parametrize(
    ("fields", "count"),
    [({}, 7_322_927), (SAME_SIZE, 7_396_783), ({"dim": 128, "depth": 25}, 43_780_463)],
)
def test_parameter_count_is_the_published(fields, count):
    assert recurrent.parameter_count("basicvsrpp", **fields) == count


@pytest.fixture(scope="module")
def tiny():
    return recurrent.Tiny(models.create("basicvsrpp", **TINY, align=False))


def test_clips_of_a_batch_do_not_meet(tiny):
    tiny.assert_clips_do_not_meet()


def test_speed_settings_change_neither_parameters_nor_result(tiny):
    tiny.assert_speed_settings_change_nothing()


def test_a_single_frame_and_bfloat16_work(tiny):
    tiny.assert_single_frame_and_bfloat16_work()


def shape_of(size, **fields):
    model = models.create("basicvsrpp", **TINY, **fields)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, 64, 64, 3)))
    return jax.eval_shape(model.apply, variables, jnp.zeros((1, 2, *size, 3))).shape


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_other_scales(scale):
    assert shape_of((64, 72), scale=scale) == (1, 2, 64 * scale, 72 * scale, 3)


def test_sizes_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="48x80.*64x64"):
        shape_of((48, 80))
    with pytest.raises(ValueError, match="48x64.*64x64"):
        shape_of((192, 256), **SAME_SIZE)
    with pytest.raises(ValueError, match="258x256 pixels must be multiples of 4"):
        shape_of((258, 256), **SAME_SIZE)
    with pytest.raises(ValueError, match="scale 4 must be 1"):
        shape_of((256, 256), is_low_res_input=False)
