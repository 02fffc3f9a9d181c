"""The trainings of built-in weights: what they draw, and that they write what can be loaded."""

import argparse
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import render_clips, train_preset, train_spynet
from jaxvsr import presets
from jaxvsr.layers.warp import flow_warp


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


def test_a_training_of_a_preset_writes_what_loads(tmp_path, monkeypatch):
    pytest.importorskip("av")
    for name, value in {"RENDERED": {64: 1.0}, "SIZE": 64, "FRAMES": 3}.items():
        monkeypatch.setattr(render_clips, name, value)
    clips = tmp_path / "clips"
    clips.mkdir()
    render_clips.write(render_clips.clip, clips, 0, 0, 1, 1)
    fields = {"name": "swrn", "dim": 4, "num_blocks": 1, "scale": 4}
    recipe = dataclasses.replace(
        train_preset.RECIPES["video"], model=fields, batch=2, frames=2, crop=8
    )
    given = argparse.Namespace(dtype="float32", minutes=0.1, capacity=1)
    train_preset.train("small", recipe, clips, tmp_path, given)
    model, variables, made = presets.load("small", tmp_path)
    sr = model.apply(variables, jnp.zeros((1, 2, 8, 8, 3)))
    assert sr.shape == (1, 2, 32, 32, 3) and made["train"]["steps"] > 0
