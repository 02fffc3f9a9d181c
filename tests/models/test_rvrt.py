"""RVRT as a whole network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recurrent
import reference

from configs.rvrt import get_config
from jaxvsr import models, weights
from jaxvsr.layers.warp import flow_warp
from jaxvsr.models.rvrt import flows_between_clips
from jaxvsr.weights.rvrt import RVRT as RULES

SMALL = {"dim": 24, "num_heads": (3, 3, 3)}
FEW = {"deform_groups": 4, "attention_heads": 6}
DEBLURRING = {"scale": 1, "inputconv_groups": (1, 3, 3, 3, 3, 3)}
DENOISING = {"scale": 1, "inputconv_groups": (1, 3, 4, 6, 8, 4), "noise_level": True}
TINY = {
    "dim": 8,
    "num_blocks": (1, 1, 1),
    "depths": (1, 1, 1),
    "num_heads": (2, 2, 2),
    "attention_heads": 2,
    "deform_groups": 2,
    "mid_channels": 8,
    "features_hr": 8,
}


@functools.cache
def official(case="rvrt_tiny", **fields):
    return recurrent.official(case, "rvrt", **SMALL, **fields)


def test_golden():
    keys = ("flow_backward", "flow_forward", "feat_forward_2")
    recurrent.assert_golden(official(**FEW), keys, bar=1e-5)


@pytest.mark.slow
def test_golden_deblurring():
    recurrent.assert_golden(official("rvrt_tiny_deblur", **FEW, **DEBLURRING), (), bar=1e-5)


def test_golden_denoising():
    case = official("rvrt_tiny_denoise", **DENOISING)
    width, level = case.lq.shape[3], case.arrays["noise_level"]
    levels = jnp.where(jnp.arange(width) < width // 2, level / 2, level)
    levels = jnp.broadcast_to(levels[:, None], (*case.lq.shape[:-1], 1))
    lq = jnp.concatenate([case.lq, levels], axis=-1)
    recurrent.assert_golden(case, (), lq=lq, bar=1e-5)


@pytest.mark.slow
def test_golden_mirrored_septuplet():
    case = official("rvrt_tiny_mirror14")
    sr = recurrent.assert_golden(case, (), bar=1e-5)
    center = (sr[3:4] + sr[10:11]) / 2
    reference.assert_frames(center, case.manifest, case.arrays, "vimeo_centre", 1e-5)


@pytest.mark.slow
def test_gradients_golden():
    case = official(**FEW)
    gt = case.lq.repeat(4, axis=2).repeat(4, axis=3)
    # The official gradients in float32 differ from those in float64 by up to 5e-4, because of the
    # kinks of bilinear sampling at integer positions.
    recurrent.assert_gradients_golden(case, RULES.official_name, gt, eps=1e-9, bar=2e-3)


@pytest.mark.parametrize(
    ("variant", "count", "case"),
    [
        ("001", 10_782_295, "rvrt_tiny"),
        ("004", 13_573_159, "rvrt_tiny_deblur"),
        ("006", 12_786_919, "rvrt_tiny_denoise"),
    ],
)
def test_parameters_and_their_names_are_the_published(variant, count, case):
    model = models.create(**get_config(variant).model)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, 64, 64, 3)))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    places = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
    assert sorted(map(RULES.official_name, places)) == sorted(reference.load(case)[1])


def test_buffers_may_be_there_and_nothing_else():
    tensors = reference.load("rvrt_tiny")[1]
    attention = "backbone.forward_1.main.5.0.residual_group.blocks.1.attn"
    buffers = {
        f"{attention}.relative_position_index": np.zeros((128, 128), np.int64),
        "spynet.mean": np.zeros((1, 3, 1, 1)),
        "spynet.std": np.ones((1, 3, 1, 1)),
    }
    variables = weights.from_torch("rvrt", tensors | buffers, **SMALL, **FEW)
    jax.tree.map(np.testing.assert_array_equal, variables, official(**FEW).variables)
    with pytest.raises(ValueError, match=r"left over: backbone\.forward_3"):
        weights.from_torch("rvrt", tensors | {"backbone.forward_3": 0}, **SMALL, **FEW)
    with pytest.raises(ValueError, match=r"missing: .*feat_extract\.1\.weight"):
        weights.from_torch("rvrt", tensors, **SMALL, **FEW, **DEBLURRING)


@pytest.mark.parametrize("reverse", [False, True])
def test_flows_between_clips_are_those_between_frames_in_a_row(reverse):
    flows = 3 * jax.random.normal(jax.random.key(0), (1, 5, 6, 7, 2))
    to_first, to_second = flows_between_clips(flows, reverse)
    # In the order in which frames are met, flow i + 1 leads from frame i + 1 to frame i.
    f = [None, *(flows[:, ::-1] if reverse else flows).swapaxes(0, 1)]
    for clip in (1, 2):
        second, third, fourth = 2 * clip - 1, 2 * clip, 2 * clip + 1
        f02 = f[third] + flow_warp(f[second], f[third])
        f13 = f[fourth] + flow_warp(f[third], f[fourth])
        f03 = f[fourth] + flow_warp(f02, f[fourth])
        for actual, expected in ((to_first, (f02, f13)), (to_second, (f[third], f03))):
            np.testing.assert_allclose(actual[:, clip], np.stack(expected, 1), atol=1e-5)


@pytest.fixture(scope="module")
def tiny():
    model = models.create("rvrt", **TINY, align=False)
    return recurrent.Tiny(model, (9, 11), frames=4, spread=0.2)


def test_clips_of_a_batch_do_not_meet_and_every_frame_counts(tiny):
    tiny.assert_clips_do_not_meet_and_every_frame_counts(1e-4)


def test_speed_settings_change_neither_parameters_nor_result(tiny):
    tiny.assert_speed_settings_change_nothing({"remat": True, "unroll": 2}, atol=1e-4)


def test_bfloat16_is_near_and_returns_float32(tiny):
    tiny.assert_bfloat16_is_near()


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_other_scales_and_a_single_clip(scale):
    model = models.create("rvrt", **TINY, scale=scale)
    lq = jnp.zeros((1, 2, 130, 131, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), lq)
    sr = jax.eval_shape(model.apply, variables, lq)
    assert sr.shape == (1, 2, 130 * scale, 131 * scale, 3)


def test_frames_that_are_reduced_are_padded_by_their_reverse():
    lq = jax.random.uniform(jax.random.key(0), (1, 2, 131, 132, 3))
    padded = models.create("rvrt", scale=1).apply({}, lq, method="prepare")
    np.testing.assert_array_equal(padded, np.concatenate([lq, lq[:, :, :-6:-1]], axis=2))
    enlarged = models.create("rvrt").apply({}, lq, method="prepare")
    np.testing.assert_array_equal(enlarged, lq)


def test_clips_that_cannot_work_are_refused():
    def check(shape, **fields):
        models.create("rvrt", **fields).apply({}, jnp.zeros(shape))

    with pytest.raises(
        ValueError, match="lq has 5 frames; expected a multiple of 2 .repeat or drop"
    ):
        check((1, 5, 64, 64, 3))
    with pytest.raises(ValueError, match="192x128 pixels are too small; expected more than 128"):
        check((1, 2, 192, 128, 3), scale=1)
