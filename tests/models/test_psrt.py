import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recurrent
import reference

from jaxvsr import models, weights
from jaxvsr.layers.propagation import BRANCHES
from jaxvsr.layers.upsample import resize
from jaxvsr.models.psrt import PSRTBlock, arrange
from jaxvsr.training.losses import charbonnier
from jaxvsr.weights.psrt import PSRT as RULES
from jaxvsr.weights.rules import take_over

TINY = {"dim": 8, "depths": (2,), "num_heads": (2,), "mid_channels": 8, "features_hr": 8}


@functools.cache
def official():
    fields = {"dim": 24, "depths": (2, 2), "num_heads": (2, 2), "mid_channels": 16}
    manifest, tensors, arrays = reference.load("psrt_tiny")
    model = models.create("psrt", **fields)
    variables = weights.from_torch("psrt", tensors, **fields)
    return model, variables, manifest, arrays, jnp.asarray(arrays["lq"][None] / np.float32(255))


def test_golden():
    model, variables, manifest, arrays, lq = official()
    run = jax.jit(functools.partial(model.apply, mutable="intermediates"))
    sr, sown = run(variables, lq)
    reference.assert_frames(sr[0], manifest, arrays, "sr", 1e-4)
    for branch in BRANCHES:
        feats = sown["intermediates"][f"feat_{branch}"][0][0]
        if f"feat_{branch}" in manifest["cases"]:
            reference.assert_frames(feats, manifest, arrays, f"feat_{branch}", 1e-4)


@pytest.mark.slow
def test_gradients_golden():
    model, variables, manifest, arrays, lq = official()
    gt = jnp.clip(resize(lq, (256, 256), "bicubic"), 0, 1)

    @jax.jit
    @jax.value_and_grad
    def gradient(params):
        return charbonnier(model.apply({"params": params}, lq, train=True), gt).mean()

    loss, gradients = gradient(variables["params"])
    assert float(loss) == pytest.approx(float(arrays["train/loss"]), rel=1e-5)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients.pop("spynet")))
    reference.assert_gradients(gradients, RULES.official_name, manifest, arrays, 1e-3)


@pytest.mark.parametrize(
    ("groups", "official_count"),
    [(3, 13_366_943), pytest.param(4, 16_844_303, marks=pytest.mark.slow)],
)
def test_parameter_count_is_the_published_less_the_dead(groups, official_count):
    model = models.create("psrt", depths=(6,) * groups, num_heads=(6,) * groups)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, 64, 64, 3)))
    assert list(variables) == ["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == official_count - 567_136


def test_dead_layers_and_buffers_are_passed_over_and_nothing_else():
    variables = official()[1]
    manifest, tensors, _ = reference.load("psrt_tiny")
    dead = set(manifest["unused_parameters"])
    taken = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert len(dead) == 24 and dead <= set(tensors)
    assert taken == sum(v.size for k, v in tensors.items() if k not in dead)
    attention = "patch_align.forward_1.layers.0.residual_group.blocks.0.attn"
    state_dict = {k: v for k, v in tensors.items() if k not in dead}
    state_dict |= {
        f"{attention}.relative_position_index": np.zeros((192, 192), np.int64),
        "spynet.mean": np.zeros((1, 3, 1, 1)),
    }
    other = take_over(variables, RULES, state_dict, reference.torch_kernel)
    jax.tree.map(np.testing.assert_array_equal, other, variables)
    state_dict["patch_align.forward_1.conv_second.weight"] = np.zeros(1)
    with pytest.raises(ValueError, match=r"left over: patch_align\.forward_1\.conv_second"):
        take_over(variables, RULES, state_dict, reference.torch_kernel)


@pytest.mark.parametrize(("step", "expected"), [(0, (5, 5, 5)), (1, (1, 5, 0)), (2, (1, 5, 2))])
def test_what_stands_in_for_the_frames_not_met_yet(step, expected):
    current, n1, n2 = (jnp.full((1, 2, 2, 1), x) for x in (5.0, 1.0, 2.0))
    n2 = n2 if step > 1 else jnp.zeros_like(n2)
    frames = arrange(jnp.int32(step), current, n1, n2)
    np.testing.assert_array_equal(frames[0, :, 0, 0, 0], expected)


@pytest.fixture(scope="module")
def tiny():
    model = models.create("psrt", **TINY, align=False)
    return recurrent.Tiny(model, (18, 21), frames=3, spread=0.2)


def test_clips_of_a_batch_do_not_meet_and_every_frame_counts(tiny):
    tiny.assert_clips_do_not_meet_and_every_frame_counts(1e-3)


def test_speed_settings_change_neither_parameters_nor_result(tiny):
    tiny.assert_speed_settings_change_nothing({"remat": True, "unroll": 2}, atol=1e-4)


def test_bfloat16_is_near_and_returns_float32(tiny):
    tiny.assert_bfloat16_is_near()


def test_drop_path_takes_a_clip_whole():
    """Of a clip's three frames a block's attention and MLP are left out all, or none."""
    block = PSRTBlock(
        num_heads=2,
        window_size=(3, 8, 8),
        shifted=True,
        mlp_ratio=2.0,
        train=True,
        dtype=jnp.float32,
    )
    x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 3, 8, 8, 4)), jnp.float32)
    rngs = {"params": jax.random.key(0), "droppath": jax.random.key(1)}
    run = jax.jit(lambda x: block.init_with_output(rngs, x, None, 0.5))
    y, _ = run(x)
    untouched = (y == x).all((2, 3, 4))
    assert (untouched.all(1) == untouched.any(1)).all()
    assert 2 <= untouched.all(1).sum() <= 16  # a quarter is expected


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_other_scales_and_a_single_frame(scale):
    model = models.create("psrt", **TINY, align=False, scale=scale)
    sr, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((1, 1, 9, 16, 3)))
    assert sr.shape == (1, 1, 9 * scale, 16 * scale, 3)
