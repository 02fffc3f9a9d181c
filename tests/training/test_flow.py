"""The training of SpyNet on true flow, configs/spynet.py."""

import json
import pathlib

import jax
import numpy as np
import pytest
import runs

from configs import spynet
from jaxvsr import models
from jaxvsr.config import defaults, fields
from jaxvsr.errors import InputError
from jaxvsr.preflight import check_settings, check_true_flow, create_model
from jaxvsr.training import loop
from jaxvsr.training.step import batch_shapes


@pytest.mark.parametrize("variant", spynet.VARIANTS)
def test_every_variant_is_whole_and_possible(variant):
    config = spynet.get_config(variant)
    expected = {path for path, _ in fields(defaults()) if not path.startswith(("model", "loss"))}
    assert expected < {path for path, _ in fields(config)}
    check_settings(config)
    shapes = batch_shapes(config.data, create_model(config).scale)
    lq = shapes["lq"].shape
    assert shapes["flow_forward"].shape == (*lq[:-1], 2)
    assert shapes["visible_backward"].shape == lq[:-1]


def test_an_unknown_variant_is_named():
    with pytest.raises(ValueError, match="no variant 'small', only large, tiny"):
        spynet.get_config("small")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.flow", False, "needs data.flow=True"),
        ("model.name", "swrn", "need model.name='spynet'"),
        ("data.frames", 1, "needs neighboring frames"),
        ("data.mirror", True, "needs neighboring frames"),
        ("data.intervals", (1, 2), "needs neighboring frames"),
        ("data.crop", 192, "inputs of a multiple of 32 pixels, not 48"),
        ("eval.input", "mirror", "needs whole clips as they are"),
    ],
)
def test_wrong_settings_are_named(field, value, message):
    config = spynet.get_config("tiny")
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=message):
        check_settings(config)


def test_clips_without_flow_are_named():
    class Plain:
        has_flow = False

    with pytest.raises(InputError, match="'reds' has no true flow: use one of dead_leaves"):
        check_true_flow(True, "reds", Plain())
    check_true_flow(False, "reds", Plain())


def test_a_run_without_spynet_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "load_config", lambda path: spynet.get_config("tiny"))
    monkeypatch.setattr(loop, "load_best", lambda *values: (1, {"params": {"conv": {}}}, ""))
    config = spynet.get_config("tiny")
    config.train.spynet_weights = str(tmp_path)
    with pytest.raises(InputError, match="train.spynet_weights: the network in .* has no SpyNet"):
        loop._given_spynet(config)


def test_small_frames_have_fewer_levels():
    model, lq = models.create("spynet"), jax.ShapeDtypeStruct((1, 2, 40, 11, 3), np.float32)
    sr, state = jax.eval_shape(
        lambda lq: model.init_with_output(jax.random.key(0), lq, mutable=["params", "aux"]), lq
    )
    assert sr.shape == (1, 2, 160, 44, 3) and "params" in state


@pytest.mark.slow
def test_the_network_of_a_clip_predicts_frames_from_their_neighbors():
    """Untrained, without motion: the previous frame, and for the first one the next."""
    model = models.create("spynet", scale=2)
    lq = jax.random.uniform(jax.random.key(0), (1, 3, 32, 40, 3))

    @jax.jit
    def compute(lq):
        variables = model.init(jax.random.key(1), lq)
        return variables, *model.apply(variables, lq, mutable="aux")

    variables, sr, state = compute(lq)
    expected = models.create("bicubic", scale=2)(lq[:, [1, 0, 1]])
    np.testing.assert_allclose(sr, expected, atol=1e-5)
    assert variables.keys() == {"params"} and variables["params"].keys() == {"spynet"}
    sizes = [flow.shape[3:5] for flow in state["aux"]["flow_levels"]]
    assert sizes == [(32 // 2**i, 40 // 2**i) for i in range(6)]


@pytest.mark.slow
def test_the_config_trains_scores_and_gives_weights_to_other_networks(data_dir, tmp_path):
    run = tmp_path / "run"
    small = {"data.frames": 2, "data.crop": 128, "data.batch": 4, "train.steps": 12}
    output = runs.finish(runs.start("spynet", data_dir, run, **small))
    assert "SpyNet starts from motion" in output and "End-point error (pixels)" in output
    reports = runs.reports(run)
    assert all(np.isfinite(reports[step]["train/epe"]) for step in range(1, 13))
    (path,) = run.glob("eval/*_flow.json")
    saved = json.loads(path.read_text())
    assert saved["errors"] != saved["still"]
    scored = {reports[step]["eval/dead_leaves_test_val/epe"] for step in (6, 12)}
    assert saved["mean"] == pytest.approx(min(scored), rel=1e-5)  # the best checkpoint
    assert pathlib.Path(f"{str(path)[:-5]}.md").exists()
    params = loop._spynet(str(run), seed=0)
    shapes = jax.tree.map(np.shape, params)
    assert shapes == jax.tree.map(np.shape, loop._spynet("builtin", seed=0))
