"""IIA-VSR and MIA-VSR as whole networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr import models, weights
from jaxvsr.layers.propagation import BRANCHES
from jaxvsr.layers.sown import keep_ratio
from jaxvsr.layers.upsample import resize
from jaxvsr.training.losses import charbonnier
from jaxvsr.weights.iiavsr import IIAVSR as RULES

OFFICIAL = {"dim": 24, "depths": (2, 2), "num_heads": (3, 3), "mid_channels": 16}
TINY = {"dim": 8, "depths": (2,), "num_heads": (2,), "mid_channels": 8, "features_hr": 8}
CASES = {
    "iiavsr_tiny": ("iiavsr", {}, 1e-4),
    "miavsr_tiny_nomask": ("miavsr", {"use_mask": False}, 1e-4),
    "miavsr_tiny": ("miavsr", {}, 2e-3),
    "miavsr_tiny_ragged": ("miavsr", {}, 2e-3),
}
GATED = {"gating": "bucketed"}


@functools.cache
def official(case, **more):
    name, fields, _ = CASES[case]
    fields = fields | more
    manifest, tensors, arrays = reference.load(case)
    model = models.create(name, **OFFICIAL, **fields)
    variables = weights.from_torch(name, tensors, **OFFICIAL, **fields)
    return model, variables, manifest, arrays, jnp.asarray(arrays["lq"][None] / np.float32(255))


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        *((case, {}) for case in CASES),
        *(
            pytest.param(case, GATED, marks=pytest.mark.slow)
            for case in ("miavsr_tiny", "miavsr_tiny_ragged")
        ),
    ],
)
def test_golden(case, fields):
    model, variables, manifest, arrays, lq = official(case, **fields)
    bar = CASES[case][2]

    @jax.jit
    def run(variables, lq):
        sr, sown = model.apply(variables, lq, mutable=["aux", "intermediates"])
        return sr[0], sown

    sr, sown = run(variables, lq)
    aux = sown["aux"]
    for way in ("forward", "backward"):
        flow = aux[f"flows_{way}"][0][0]
        reference.assert_frames(flow, manifest, arrays, f"flow_{way}", 1e-4)
    for branch in BRANCHES:
        feats = sown["intermediates"][f"feat_{branch}"][0][0]
        reference.assert_frames(feats, manifest, arrays, f"feat_{branch}", bar)
    reference.assert_frames(sr, manifest, arrays, "sr", bar)
    if "mask_ratio" in arrays:
        ratios = []
        for branch in BRANCHES:
            blocks = [aux[branch][f"group_{g}"][f"block_{i}"] for g, i in np.ndindex(2, 2)]
            per_frame = np.stack([block["keep_ratio"][0][:, 0] for block in blocks], axis=1)
            met = per_frame[::-1] if branch.startswith("backward") else per_frame
            np.testing.assert_array_equal(met[0], 1)
            ratios.append(met[1:])
        np.testing.assert_allclose(np.ravel(ratios), arrays["mask_ratio"], atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["iiavsr_tiny", "miavsr_tiny_nomask", "miavsr_tiny"])
def test_gradients_golden(case):
    model, variables, manifest, arrays, lq = official(case)
    h, w = lq.shape[2:4]
    gt = jnp.clip(resize(lq, (4 * h, 4 * w), "bicubic"), 0, 1)
    masked = case == "miavsr_tiny"

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def gradient(params):
        sr, sown = model.apply({"params": params}, lq, train=True, mutable="aux")
        sparsity = keep_ratio(sown["aux"])
        return charbonnier(sr, gt).mean() + 1e-4 * sparsity * masked, (sr, sparsity)

    (loss, (sr, sparsity)), gradients = gradient(variables["params"])
    assert float(loss) == pytest.approx(float(arrays["train/loss"]), rel=CASES[case][2])
    reference.assert_frames(sr[0], manifest, arrays, "train/sr", CASES[case][2])
    if masked:
        assert float(sparsity) == pytest.approx(float(arrays["train/sparsity"]), abs=1e-4)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients.pop("spynet")))
    if not masked:
        gradients = drop_predictors(gradients)
    reference.assert_gradients(gradients, RULES.official_name, manifest, arrays, 1e-3)


def drop_predictors(tree):
    if not isinstance(tree, dict):
        return tree
    return {k: drop_predictors(v) for k, v in tree.items() if k != "predictor"}


@pytest.mark.parametrize(
    ("name", "depths", "official_count"),
    [
        ("miavsr", (6, 6, 6, 6), 16_596_719),
        ("iiavsr", (6, 6, 6), 13_172_543),
        ("iiavsr", (6, 6, 6, 6), 16_585_103),
        ("iiavsr", (6,) * 6, 23_410_223),
    ],
)
def test_parameter_count_is_the_published_less_the_dead(name, depths, official_count):
    model = models.create(name, depths=depths, num_heads=depths)
    lq = jnp.zeros((1, 1, 64, 64, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), lq)
    assert list(variables) == ["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == official_count - 567_136


@pytest.fixture(scope="module")
def tiny():
    """A masked network of small random weights, masks of every kind, and two clips."""
    model = models.create("miavsr", **TINY, align=False)
    lq = jax.random.uniform(jax.random.key(0), (2, 3, 20, 27, 3))
    variables = jax.jit(model.init)(jax.random.key(1), lq)
    # Initial weights are near zero: larger ones make the masks and the attention matter.
    keys = iter(jax.random.split(jax.random.key(2), 1000))
    variables = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape), variables)
    apply = jax.jit(lambda variables, lq: model.apply(variables, lq, mutable="aux"))
    return model, variables, lq, apply


def test_clips_of_a_batch_do_not_meet(tiny):
    _, variables, lq, apply = tiny
    both, aux = apply(variables, lq)
    for i in range(2):
        alone, _ = apply(variables, lq[i : i + 1])
        np.testing.assert_allclose(both[i], alone[0], atol=1e-5)
    assert 0.02 < float(keep_ratio(aux["aux"])) < 0.98


def test_speed_settings_change_neither_parameters_nor_result(tiny):
    model, variables, lq, apply = tiny
    expected, _ = apply(variables, lq)
    for setting in ({"remat": True}, {"unroll": 2}):
        other = model.clone(**setting)
        np.testing.assert_allclose(jax.jit(other.apply)(variables, lq), expected, atol=1e-5)


def test_remat_keeps_of_each_step_its_inputs_alone():
    """Two frames' features and what each block's masks look back at."""
    model = models.create("miavsr", **TINY, align=False, remat=True)
    clips, frames, (h, w) = 2, 5, (16, 24)
    lq = jnp.zeros((clips, frames, h, w, 3))
    params = jax.eval_shape(model.init, jax.random.key(0), lq)["params"]

    def kept(params):
        return jax.vjp(lambda params: model.apply({"params": params}, lq, train=True), params)[1]

    leaves = jax.tree.leaves(jax.eval_shape(kept, params))
    inside = {leaf.shape for leaf in leaves if leaf.ndim > 2 and leaf.shape[0] == frames}
    windows = clips * h * w // 64
    assert inside == {(frames, clips, h, w, model.dim), (frames, windows, 64, model.dim)}


def test_same_rng_same_bits_and_no_rng_no_noise(tiny):
    model, variables, lq, _ = tiny

    @jax.jit
    def run(seed):
        gumbel, droppath = jax.random.split(jax.random.key(seed))
        rngs = {"gumbel": gumbel, "droppath": droppath}
        return model.apply(variables, lq, train=True, rngs=rngs)

    np.testing.assert_array_equal(run(0), run(0))
    assert np.abs(run(0) - run(1)).max() > 1e-3
    quiet = jax.jit(lambda: model.apply(variables, lq, train=True))()
    hard, _ = tiny[3](variables, lq)
    np.testing.assert_allclose(quiet, hard, atol=1e-5)


def test_a_single_frame_and_bfloat16_work(tiny):
    model, variables, lq, _ = tiny
    exact = jax.jit(model.apply)(variables, lq[:, :1])
    half = jax.jit(model.clone(dtype="bfloat16").apply)(variables, lq[:, :1])
    assert exact.shape == (2, 1, 80, 108, 3)
    assert half.dtype == jnp.float32
    assert reference.relative_error(half, exact) < 3e-2


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_other_scales(scale):
    model = models.create("iiavsr", **TINY, align=False, scale=scale)
    sr, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((1, 2, 8, 16, 3)))
    assert sr.shape == (1, 2, 8 * scale, 16 * scale, 3)


def test_frames_too_small_for_the_flow_are_refused():
    model = models.create("miavsr", **TINY)
    with pytest.raises(ValueError, match="48x80.*64x64"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 48, 80, 3)))
