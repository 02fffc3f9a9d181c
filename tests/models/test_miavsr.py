import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr import models
from jaxvsr.layers.sown import keep_ratio
from jaxvsr.layers.window_transformer import neighbor_windows
from jaxvsr.layers.windows import partition
from jaxvsr.models.miavsr import MIABlock, initial_memory
from jaxvsr.weights.iiavsr import IIAVSR as RULES
from jaxvsr.weights.rules import take_over

WINDOW = (3, 8, 8)


def run_block(block, params, u):
    """Three successive calls: outputs, masks and kept shares of each step."""
    outputs, sown = [], []
    memory = initial_memory(u[0][:, 2:], WINDOW)
    for clip in u:
        neighbors = neighbor_windows(clip[:, :2], WINDOW, block.dtype)
        (y, memory), aux = block.apply(
            {"params": params}, clip[:, 2:], neighbors, 0.0, memory, mutable="aux"
        )
        outputs.append(y[:, 0])
        sown.append(aux["aux"])
    return outputs, sown


def assert_same(actual, expected):
    assert reference.relative_error(actual, expected) < 1e-6


@pytest.mark.parametrize("shifted", [0, 1])
@pytest.mark.parametrize("size", ["16x24", "18x21"])
def test_block_golden(shifted, size):
    manifest, tensors, arrays = reference.load("op_mia_block")
    name = f"b{shifted}"
    own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(name)}
    key = f"{name}/{size}"
    u0 = jnp.asarray(tensors[f"u0_{size}"])
    u1 = u0 + tensors[f"du1_{size}"]
    u = (u0, u1, u1 + tensors[f"du2_{size}"])
    hard, gated, soft = (
        MIABlock(
            num_heads=3,
            window_size=WINDOW,
            shifted=bool(shifted),
            mlp_ratio=2.0,
            train=train,
            dtype=jnp.float32,
            gating=gating,
        )
        for train, gating in ((False, "dense"), (False, "bucketed"), (True, "bucketed"))
    )
    neighbors = neighbor_windows(u0[:, :2], WINDOW, jnp.float32)
    example = (u0[:, 2:], neighbors, 0.0, initial_memory(u0[:, 2:], WINDOW))
    expected = jax.eval_shape(hard.init, jax.random.key(0), *example)["params"]
    params = take_over(expected, RULES, own, reference.torch_kernel)

    outputs, sown = jax.jit(lambda p, u: run_block(hard, p, u))(params, u)
    same = jax.jit(lambda p, u: run_block(gated, p, u))(params, u)
    jax.tree.map(assert_same, (outputs, sown), same)
    shift = (0, 4, 4) if shifted else (0, 0, 0)
    for t in range(3):
        reference.assert_frames(outputs[t], manifest, arrays, f"{key}/eval{t}", 1e-5)
        if t:
            mask = partition(sown[t]["mask"][0][:, None, ..., None], (1, 8, 8), shift)[0, ..., 0]
            kept = arrays[f"{key}/mask{t}"]
            inside = partition(jnp.ones((1, 1, *u0.shape[2:4], 1)), (1, 8, 8), shift)[0, ..., 0]
            np.testing.assert_array_equal(mask, kept * np.asarray(inside))
            assert sown[t]["keep_ratio"][0].item() == pytest.approx(arrays[f"{key}/kept{t}"])

    def loss(params, u):
        outputs, sown = run_block(soft, params, u)
        total = 20 * (sown[1]["keep_ratio"][0] + sown[2]["keep_ratio"][0]).sum()
        for t, y in enumerate(outputs):
            r = reference.direction(f"{key}/train{t}", y.shape, manifest["salt"])
            total += (y * r).sum()
        return total

    value, (dparams, du) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, u)
    assert float(value) == pytest.approx(float(arrays[f"{key}/train_loss"]), rel=1e-4)
    prefix = f"{key}/grad"
    reference.assert_gradients(
        dparams,
        lambda place: f"{name}.{RULES.official_name(place)}",
        manifest,
        arrays,
        1e-3,
        prefix=prefix,
    )
    for t, gradient in enumerate(np.asarray(du, np.float64)):
        norm, dot = (arrays[f"{prefix}/{what}/u{t}_{size}"] for what in ("norm", "dot"))
        r = reference.direction(f"u{t}_{size}", gradient.shape, manifest["salt"])
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=1e-3)
        assert (gradient * r).sum() == pytest.approx(dot, abs=3e-3 * norm)


def with_predictors(variables, bias):
    """Predictors that keep the tokens that changed by more than -bias in all."""

    def change(path, leaf):
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        if place.endswith("predictor/linear/kernel"):
            return np.ones_like(leaf)
        return np.full_like(leaf, bias) if place.endswith("predictor/linear/bias") else leaf

    return jax.tree_util.tree_map_with_path(change, variables)


@pytest.fixture(scope="module")
def small():
    """A network of random weights, two clips of ragged size, and a function to run it."""
    fields = {"dim": 8, "depths": (2,), "num_heads": (2,), "mid_channels": 8, "features_hr": 8}
    model = models.create("miavsr", **fields, align=False)
    lq = jax.random.uniform(jax.random.key(0), (2, 3, 20, 27, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), lq)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: np.float32(0.2 * rng.normal(size=leaf.shape)), shapes)
    variables = with_predictors(variables, -0.2)

    @functools.cache
    def run(**changes):
        apply = functools.partial(model.clone(**changes).apply, mutable="aux")
        return jax.jit(apply)

    return variables, lq, run


@pytest.mark.parametrize(
    ("bias", "lowest", "highest"), [(-100, 0, 0), (0, 1, 1), (-0.2, 0.2, 0.6), (-0.5, 0.01, 0.2)]
)
def test_gating_changes_no_result(small, bias, lowest, highest):
    variables, lq, run = small
    variables = with_predictors(variables, bias)
    dense, aux = run()(variables, lq)
    assert lowest <= keep_ratio(aux["aux"]) <= highest
    gated, same = run(gating="bucketed")(variables, lq)
    assert_same(gated, dense)
    jax.tree.map(np.testing.assert_array_equal, aux, same)


def test_gating_goes_with_remat(small):
    variables, lq, run = small
    dense, _ = run()(variables, lq)
    assert_same(run(gating="bucketed", remat=True)(variables, lq)[0], dense)


def test_variants_are_other_masks_on_the_same_weights(small):
    variables, lq, run = small
    published, fewer, share = (
        run(**variant)(variables, lq)[1]["aux"]
        for variant in ({}, {"threshold": 0.2}, {"keep_share": 0.25, "window_masks": True})
    )
    assert 0 < keep_ratio(fewer) < keep_ratio(published)
    # A quarter of the 12 windows of 8x8.
    assert keep_ratio(share) == pytest.approx(0.25)
    mask = share["forward_1"]["group_0"]["block_0"]["mask"][0][1, 0, :16, :24]
    assert set(np.asarray(mask).reshape(2, 8, 3, 8).mean((1, 3)).ravel()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("field", "value"), [("gating", "sparse"), ("keep_share", 1.5), ("keep_share", -0.1)]
)
def test_a_field_that_cannot_be_is_named(field, value):
    with pytest.raises(ValueError, match=f"{field}={value!r}"):
        models.create("miavsr", **{field: value})
