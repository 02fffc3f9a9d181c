"""VRT as a whole network, for every task."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recurrent
import reference

from configs.vrt import get_config
from jaxvsr import models, weights
from jaxvsr.evaluation import restoring
from jaxvsr.pixels import to_integers
from jaxvsr.training.losses import charbonnier
from jaxvsr.weights.rules import take_over
from jaxvsr.weights.vrt import VRT as RULES

# The tests are mostly compilation.
QUICKLY_COMPILED = {"xla_backend_optimization_level": 0}
FIELDS = {  # ours -> the official code's
    "scale": "upscale",
    "dims": "embed_dims",
    "deform_groups": "deformable_groups",
    **{
        name: name
        for name in (
            *("depths", "num_heads", "window_size", "indep_reconsts", "mul_attn_ratio"),
            "pa_frames",
        )
    },
}
CASES = ("vrt_tiny", "vrt_tiny_vfi")
SLOW_CASES = ("vrt_tiny_pa4", "vrt_tiny_pa6", "vrt_tiny_deblur", "vrt_tiny_denoise")
slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@functools.cache
def official(case):
    """Model, variables, manifest, arrays and the clip (1, t, h, w, c) of a golden case."""
    manifest, tensors, arrays = reference.load(case)
    config = manifest["config"]
    fields = {ours: config[theirs] for ours, theirs in FIELDS.items()}
    fields["noise_level"] = config.get("nonblind_denoising", False)
    fields["interpolation"] = not config["pa_frames"]
    lq = arrays["lq"][None] / np.float32(255)
    if "noise_level" in arrays:
        level = np.full((*lq.shape[:-1], 1), arrays["noise_level"], np.float32)
        level[..., : lq.shape[3] // 2, :] /= 2  # as in the case's manifest
        lq = np.concatenate([lq, level], axis=-1)
    variables = weights.from_torch("vrt", tensors, **fields)
    return models.create("vrt", **fields), variables, manifest, arrays, jnp.asarray(lq)


@functools.cache
def outputs(case):
    """What the network makes of a golden case's clip: the image, and what is sown."""
    model, variables, _, _, lq = official(case)
    apply = functools.partial(model.apply, mutable="intermediates")
    run = jax.jit(apply, compiler_options=QUICKLY_COMPILED)
    with jax.default_matmul_precision("highest"):
        sr, sown = run(variables, lq)
    sown = {k: v[0][0] for k, v in sown["intermediates"].items() if isinstance(v, tuple)}
    return {"sr": sr[0]} | {k.removeprefix("feat_"): v for k, v in sown.items()}


@pytest.mark.parametrize("case", [*CASES, *map(slow, SLOW_CASES)])
def test_golden(case):
    _, _, manifest, arrays, _ = official(case)
    out = outputs(case)
    for key in manifest["cases"]:
        if key in out:
            reference.assert_frames(out[key], manifest, arrays, key, 1e-4)
    h0, h1, w0, w1 = manifest["cases"]["sr"]["window"]
    error = np.abs(out["sr"][:, h0:h1, w0:w1] - arrays["sr/crop"])
    assert error.max() < 1e-3 and error.mean() < 5e-5


# Bilinear sampling has kinks at integer positions: with parallel warping, the official gradients in
# float32 differ from those in float64 by up to 3e-3 and 6e-3 (`grad_noise` in the manifests).
# Frame interpolation does not warp, and differs by 1e-5.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "bar"), [("vrt_tiny", 3e-2), ("vrt_tiny_denoise", 3e-2), ("vrt_tiny_vfi", 1e-4)]
)
def test_gradients_golden(case, bar):
    model, variables, manifest, arrays, lq = official(case)
    gt = lq[..., :3].repeat(model.scale, axis=2).repeat(model.scale, axis=3)
    if model.scale == 1:
        gt = gt[:, :, :, ::-1]
    if model.interpolation:
        gt = gt[:, :1]

    @functools.partial(jax.jit, compiler_options=QUICKLY_COMPILED)
    @jax.value_and_grad
    def gradient(params):
        return charbonnier(model.apply({"params": params}, lq, train=True), gt, 1e-9).mean()

    loss, gradients = gradient(variables["params"])
    np.testing.assert_allclose(loss, arrays["train/loss"], rtol=1e-5)
    reference.assert_gradients(gradients, RULES.official_name, manifest, arrays, bar)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_tiling_golden(number):
    """The official test script's tiles, and its padding of what is not tiled, in evaluation."""
    _, variables, manifest, arrays, _ = official("vrt_tiling")
    tiling = manifest["tilings"][number]
    ((_, sr, _),) = restoring.restore_clips(
        tiling_restorer(),
        jax.tree.map(jnp.asarray, variables),
        [(arrays["lq"], None)],
        tile=tuple(tiling["tile"]),
        overlap=tuple(tiling["tile_overlap"]),
        multiple=tuple(tiling["window_size"]),
    )
    for name in ("a", "b"):
        key = f"tiling{number}/{name}"
        h0, h1, w0, w1 = manifest["cases"][key]["window"]
        assert list(sr.shape) == manifest["cases"][key]["shape"]
        expected = to_integers(arrays[f"{key}/crop"])
        assert np.mean((expected > 0) & (expected < 255)) > 0.2  # not clipped
        difference = np.abs(sr[:, h0:h1, w0:w1].astype(int) - expected)
        assert difference.max() <= 1 and difference.mean() < 0.01


@functools.cache
def tiling_restorer():
    return restoring.make_restorer(official("vrt_tiling")[0])


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("001", 30_676_435),
        slow("002", 35_134_783),
        slow("003", 32_577_991),
        slow("005", 18_320_007),
        ("008", 18_320_871),
        ("009", 9_943_387),
    ],
)
def test_parameter_count_is_the_published(variant, count):
    model = models.create(**get_config(variant).model)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, 64, 64, 3)))
    assert list(variables) == ["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count


def test_what_differs_between_recipes_for_one_network_is_the_data():
    for variant, same in (("003", "004"), ("005", "006"), ("005", "007")):
        assert get_config(variant).model.to_dict() == get_config(same).model.to_dict()


def test_buffers_are_passed_over_and_nothing_else():
    _, variables, _, _, _ = official("vrt_tiny_vfi")
    _, tensors, _ = reference.load("vrt_tiny_vfi")
    attention = "stage1.residual_group1.blocks.0.attn"
    state_dict = tensors | {
        f"{attention}.relative_position_index": np.zeros((128, 128)),
        f"{attention}.position_bias": np.zeros((1, 64, 24)),
        "spynet.mean": np.zeros((1, 3, 1, 1)),
    }
    other = take_over(variables, RULES, state_dict, reference.torch_kernel)
    jax.tree.map(np.testing.assert_array_equal, other, variables)
    state_dict["stage1.linear3.weight"] = np.zeros(1)
    with pytest.raises(ValueError, match=r"left over: stage1\.linear3\.weight"):
        take_over(variables, RULES, state_dict, reference.torch_kernel)


SMALL = {
    "dims": (8,) * 8,
    "depths": (5, *(1,) * 7),
    "num_heads": (2,) * 8,
    "window_size": (2, 2, 2),
    "indep_reconsts": (),
    "mul_attn_ratio": 0.8,
    "deform_groups": 2,
    "features_hr": 8,
}


@pytest.mark.parametrize("scale", [2, 3])
def test_other_scales_and_the_official_names_of_their_heads(scale):
    model = models.create("vrt", **SMALL, scale=scale)
    lq = jnp.zeros((1, 2, 20, 30, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), lq)
    assert jax.eval_shape(model.apply, variables, lq).shape == (1, 2, 20 * scale, 30 * scale, 3)
    names = {
        RULES.official_name(jax.tree_util.keystr(path, simple=True, separator="/"))
        for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])
    }
    assert {name for name in names if name.startswith("upsample")} == {
        f"upsample.{number}.{kind}" for number in (0, 5) for kind in ("weight", "bias")
    }


@pytest.mark.parametrize(
    ("lq", "fields", "message"),
    [
        ((3, 20, 8, 3), {}, "20x8 pixels are too small; expected at least 9x9"),
        ((3, 49, 64, 3), {"window_size": (2, 8, 8)}, "49x64 pixels .* at least 57x57"),
        ((1, 20, 20, 3), {}, "lq has 1 frames; expected at least 2"),
        (
            (3, 20, 20, 3),
            {"pa_frames": 6, "deform_groups": 6},
            "lq has 3 frames; expected at least 4",
        ),
        (
            (5, 20, 20, 3),
            {"scale": 1, "pa_frames": 0, "interpolation": True},
            "lq has 5 frames; interpolation expects 4",
        ),
        ((4, 20, 20, 3), {"interpolation": True}, "pa_frames=0 and scale=1"),
        ((4, 20, 20, 3), {"pa_frames": 3}, "pa_frames=3 must be 0, 2, 4 or 6"),
        ((4, 20, 20, 3), {"pa_frames": 6, "deform_groups": 4}, "deform_groups=4 a multiple"),
    ],
)
def test_what_cannot_work_is_refused(lq, fields, message):
    model = models.create("vrt", **SMALL | fields)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.apply, {}, jnp.zeros((1, *lq)))


@pytest.fixture(scope="module")
def tiny():
    """A small network of random weights, which loops over blocks, and two clips of odd sizes."""
    model = models.create("vrt", **SMALL, scale=2)
    tiny = recurrent.Tiny(model, compiler_options=QUICKLY_COMPILED)

    # Smaller ones would not come through parallel warping, which has no way around it. Only where
    # to look must hardly depend on rounding.
    def enlarge(path, leaf):
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        if place.endswith("scale"):
            return 1 + leaf
        if not place.endswith("kernel"):
            return leaf
        gain = 0.1 if "spynet" in place or "conv_offset_3" in place else 12
        return leaf * gain / np.prod(leaf.shape[:-1]) ** 0.5

    tiny.variables = jax.tree_util.tree_map_with_path(enlarge, tiny.variables)
    return tiny


def test_clips_of_a_batch_do_not_meet(tiny):
    tiny.assert_clips_do_not_meet()


def test_frames_do_meet_both_ways(tiny):
    other = tiny.apply(tiny.variables, tiny.lq.at[0, 1].set(0.5))
    assert (np.abs(other[0] - tiny.expected[0]).max((1, 2, 3)) > 1e-3).all()


@pytest.mark.slow
def test_remat_changes_nothing_and_bfloat16_little(tiny):
    for setting, bar in (({"remat": True}, 1e-5), ({"dtype": "bfloat16"}, 0.15)):
        apply = jax.jit(tiny.model.clone(**setting).apply, compiler_options=QUICKLY_COMPILED)
        sr = apply(tiny.variables, tiny.lq)
        assert sr.dtype == jnp.float32
        assert reference.relative_error(sr, tiny.expected) < bar
