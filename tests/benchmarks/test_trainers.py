"""The trainings of built-in weights: what they draw, and that they write what can be loaded."""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks import train_preset, train_spynet
from jaxvsr import presets
from jaxvsr.layers.warp import flow_warp
from jaxvsr.weights.spynet import builtin_spynet


def test_flows_turn_with_their_frames():
    """However a pair is flipped, transposed and ordered, the flow still leads from ref to supp."""
    rng = np.random.default_rng(0)
    still = rng.integers(0, 256, (48, 48, 3), np.uint8)
    pair = np.stack([still[8:40, 8:40], still[8 - 2 : 40 - 2, 8 - 3 : 40 - 3]])  # moves by (3, 2)
    flow = np.broadcast_to(np.float16([3, 2]), (32, 32, 2))
    clips = {
        "frames": jnp.asarray(pair[None, None]),
        "flow": jnp.asarray(np.stack([flow, -flow])[None, None]),
        "visible": jnp.ones((1, 1, 2, 32, 32), jnp.uint8),
    }
    drawn = train_spynet.sample(clips, jnp.int32(1), jax.random.key(0), batch=32, crop=32)
    assert len(np.unique(np.asarray(drawn["flow"])[:, 0, 0], axis=0)) > 4
    warped = flow_warp(drawn["supp"], drawn["flow"])
    inside = (slice(None), slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(warped[inside], drawn["ref"][inside], atol=1e-5)


TINY = {
    "swrn": {"name": "swrn", "dim": 4, "num_blocks": 1},
    "basicvsr": {"name": "basicvsr", "dim": 4, "depth": 1, "features_hr": 4},
    "miavsr": {
        **{"name": "miavsr", "dim": 4, "depths": (1,), "num_heads": (1,), "mid_channels": 4},
        **{"features_hr": 4, "mask_start": 0.05, "drop_path": 0.0},
    },
}


def tiny_recipe(network, **fields):
    fields = {"batch": 1, "frames": 2, "crop": 64, "sparsity": 0.1, **fields}
    return train_preset.Recipe(TINY[network], (1.0,), **fields)


@pytest.mark.parametrize(
    "network",
    ["swrn", *(pytest.param(name, marks=pytest.mark.slow) for name in ("basicvsr", "miavsr"))],
)
def test_a_training_of_a_preset_resumes_and_writes_what_loads(tmp_path, network):
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 256, (3, 256, 256, 3), np.uint8)
    clips = tmp_path / "clips"
    clips.mkdir()
    np.savez(clips / "0.npz", gt=gt, lq=gt[None, :, ::4, ::4])
    given = argparse.Namespace(dtype="bfloat16", minutes=0.0, capacity=1, start=None)
    for steps in (1, 2):  # one each: the minutes are over once it is compiled
        train_preset.train("small", tiny_recipe(network), clips, tmp_path, given)
        model, variables, made = presets.load("small", tmp_path)
        assert made["train"]["steps"] == steps
    given.start = tmp_path / "small.safetensors"
    train_preset.train("next", tiny_recipe(network), clips, tmp_path, given)
    _, again, made = presets.load("next", tmp_path)
    assert made["train"]["steps"] == 1  # without a learning rate yet
    same = functools.partial(np.testing.assert_allclose, rtol=1e-3)  # of float16
    jax.tree.map(same, again, variables)
    sr = jax.jit(model.apply)(variables, jnp.zeros((1, 2, 64, 64, 3)))
    assert sr.shape == (1, 2, 256, 256, 3) and jnp.isfinite(sr).all()


@pytest.mark.parametrize(("network", "flow_lr"), [("basicvsr", 0.5), ("miavsr", 0)])
def test_networks_have_the_built_in_spynet(tmp_path, network, flow_lr):
    """It is neither trained nor stored, unless the recipe says so."""
    recipe = tiny_recipe(network, flow_lr=flow_lr)
    trainer = train_preset.Trainer(recipe, "float32")
    state = jax.jit(trainer.initial)()
    train_preset.save(state, "small", recipe, tmp_path)
    places = load_file(tmp_path / "small.safetensors").keys()
    assert any("spynet" in place for place in places) == bool(flow_lr)
    optimized = jax.tree_util.tree_leaves_with_path(state.optimizer)
    assert any("spynet" in jax.tree_util.keystr(path) for path, _ in optimized) == bool(flow_lr)
    model, variables, _ = presets.load("small", tmp_path)
    assert model == train_preset.Trainer(recipe, "float32").model
    assert variables["params"].keys() == {*state.params, "spynet"}
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    jax.tree.map(np.testing.assert_array_equal, variables["params"]["spynet"], builtin_spynet())
