"""The command profile: its outputs, and errors of wrong command lines."""

import contextlib
import functools
import importlib.util
import json
import pathlib
import re
import types

import jax
import numpy as np
import profiled
import pytest
from PIL import Image

from jaxvsr import cli, profile
from jaxvsr.config import load_config, save_config
from jaxvsr.preflight import create_model
from jaxvsr.profiling import tables, topologies
from jaxvsr.training.checkpoints import Checkpoints
from jaxvsr.training.state import initial_weights

REPOSITORY = pathlib.Path(__file__).parents[1]
SWRN = "--config=configs/swrn.py"
SMALL = ["--size=16x24", "--frames=3", "--rounds=1"]
MIA = "--config=configs/miavsr.py:tiny"


def main(words):
    """The exit code of a command line."""
    return cli.run_command(profile.command("profile"), words)


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def test_models_are_compared_on_the_same_clip(capsys, tmp_path):
    path = tmp_path / "new" / "costs.json"
    names = ["configs/swrn.py", "configs/bicubic.py:tiny"]
    assert (
        main(["--compare", *names, *SMALL, f"--json={path}", "--config.model.dtype=float32"]) == 0
    )
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in table[2:]] == names
    assert [row.split("|")[2].strip() for row in table[2:]] == ["43,472", "0"]
    found = json.loads(path.read_text())
    assert list(found) == ["device", "models"] and found["device"] == "cpu"
    swrn, bicubic = found["models"]
    assert [swrn["name"], bicubic["name"]] == names
    assert swrn["input"] == {"batch": 1, "frames": 3, "height": 16, "width": 24}
    assert (swrn["clip"], swrn["weights"]) == ("random noise", "untrained")
    assert sum(layer["flops"] for layer in swrn["layers"]) == swrn["flops_per_frame"]
    assert swrn["masked_flops_per_frame"] is None and swrn["keep_ratios"] == {}
    assert swrn["log_flops_per_frame"] > 0 and bicubic["log_flops_per_frame"] is None
    assert bicubic["parameters"] == bicubic["statistics"] == 0
    for model in found["models"]:
        assert len(model["seconds_of_calls"]) == 1 and model["memory_bytes"] > 0
    assert set(swrn) == set(bicubic) == set(tables.plain(profiled.masked()))


def test_without_rounds_nothing_runs(capsys):
    assert main([SWRN, "--size=180x320", "--rounds=0"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^\| parameters +\| +43,472 \|", text, re.MULTILINE)
    assert "ms per frame" not in text and "MFU" not in text


def test_the_clip_can_be_ones_own(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / f"{i}.png")
    path = tmp_path / "costs.json"
    command = ["--config=configs/bicubic.py", f"--input={tmp_path}", f"--json={path}"]
    assert main([*command, "--size=16x24", "--frames=2"]) == 0
    (model,) = json.loads(path.read_text())["models"]
    assert model["clip"] == f"the first 2 frames of {tmp_path}, the middle 16x24"
    assert model["input"] == {"batch": 1, "frames": 2, "height": 16, "width": 24}
    assert main([*command, "--frames=5"]) == 2
    assert "has 4 frames of 20x30, fewer or smaller than 5 of 20x30" in capsys.readouterr().err


def test_a_runs_weights_are_taken(tmp_path):
    """Those of predictors whose biases keep every token, or none."""
    fields = {"dim": 4, "depths": (2,), "mid_channels": 4, "features_hr": 4}
    overrides = {f"model.{field}": str(value) for field, value in fields.items()}
    config = load_config("configs/miavsr.py:tiny", overrides)
    model = create_model(config)
    shapes = jax.eval_shape(functools.partial(initial_weights, model, ema=True), jax.random.key(0))
    words = ["--size=12x20", "--frames=2", "--rounds=1"]
    for kept, run in ((1.0, tmp_path / "all"), (0.0, tmp_path / "none")):

        def value(path, leaf, kept=kept):
            bias = jax.tree_util.keystr(path, simple=True).endswith("predictorlinearbias")
            return jax.numpy.full(leaf.shape, (2 * kept - 1) if bias else 0.0)

        run.mkdir()
        save_config(config, run)
        with contextlib.closing(Checkpoints(run)) as checkpoints:
            checkpoints.save_weights(jax.tree_util.tree_map_with_path(value, shapes))
        path = run / "costs.json"
        assert main([*words, f"--workdir={run}", f"--json={path}"]) == 0
        (found,) = json.loads(path.read_text())["models"]
        assert found["weights"] == f"step 0 of {run}"
        assert set(found["keep_ratios"].values()) == {kept}


def test_gatings_are_swept_over_the_fraction_that_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("jaxvsr.profile.KEEP_RATIOS", (0.5,))
    small = {"dim": 4, "depths": (1,), "num_heads": (1,), "mid_channels": 4, "features_hr": 4}
    words = [f"--config.model.{field}={value}" for field, value in small.items()]
    words += ["--size=12x20", "--frames=2", "--rounds=1", f"--json={tmp_path / 'costs.json'}"]
    assert main([MIA, *words, f"--sweep_keep={tmp_path / 'swept.png'}"]) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"^\| blobs \| 50% \| .*^\| scattered \| 50% \| ", said, re.DOTALL | re.MULTILINE
    )
    with Image.open(tmp_path / "swept.png") as picture:
        assert picture.size == (640, 400)
    rows = json.loads((tmp_path / "costs.json").read_text())["sweep_keep"]
    assert [(row["kind"], row["share"]) for row in rows] == [("blobs", 0.5), ("scattered", 0.5)]


def assert_fails_with(words, message, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert re.search(f"error: .*{message}", said, re.DOTALL), said


@pytest.mark.parametrize(
    ("topology", "reason", "advice"),
    [
        (
            "v5e:2x2",
            RuntimeError("JAX TPU support not installed"),
            r"needs libtpu: pip install 'jaxvsr\[tpu\]'",
        ),
        (
            "v5e:2x2",
            RuntimeError("ABORTED: libtpu multi-process lockfile"),
            "another process uses libtpu",
        ),
        (
            "h100",
            NotImplementedError("topology not implemented for cuda"),
            r"needs JAX's CUDA libraries: pip install 'jaxvsr\[cuda-compile\]'",
        ),
        (
            "l4",
            RuntimeError("no such field\nstack"),
            r"XLA cannot compile for l4 \(no such field\)",
        ),
    ],
)
def test_that_a_compiler_is_missing_or_taken_is_explained(
    topology, reason, advice, capsys, monkeypatch
):
    from jax.experimental import topologies

    def fail(*_, **__):
        raise reason

    monkeypatch.setattr(topologies, "get_topology_desc", fail)
    assert_fails_with([SWRN, f"--topology={topology}"], advice, capsys)


def test_a_batch_must_be_divisible_among_a_topologys_devices(capsys, monkeypatch):
    monkeypatch.setattr(topologies, "devices", lambda name: jax.devices() * 4)
    monkeypatch.setattr("jaxvsr.profile.make_mesh", lambda devices: types.SimpleNamespace(size=4))
    words = [SWRN, "--topology=v5e:2x2", "--batch=6"]
    assert_fails_with(words, "--batch=6 must be a multiple of 4: the devices of v5e:2x2", capsys)
    words += ["--train", "--batch=4", "--config.train.accumulate=2"]
    assert_fails_with(words, "--batch=4 must be a multiple of 8: .* times train.accumulate", capsys)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="libtpu is not installed")
class TestCompilingForTPUs:
    """On this machine, which has none."""

    SMALL = ["--topology=v5e:2x2", "--config.model.dim=4", "--config.model.num_blocks=1"]

    def test_inference_fits_and_communicates_nothing(self, capsys, tmp_path):
        path = tmp_path / "fit.json"
        words = ["--size=32x32", "--frames=2", f"--json={path}"]
        assert main([SWRN, *self.SMALL, *words]) == 0
        said = capsys.readouterr().out
        assert "inference on 4 clips of 2 frames of 32x32, float32, on v5e:2x2 (4 x TPU v5" in said
        assert said.strip().endswith("It fits.") and "No collectives." in said
        found = json.loads(path.read_text())
        assert found["fits"] and found["devices"] == 4 and found["hbm"] == 16 * 2**30
        output = 4 * 2 * 128 * 128 * 3
        assert found["outputs_bytes"] >= output and found["traffic_bytes"] >= output
        assert found["compute_bound_ms"] == pytest.approx(1e3 * found["flops"] / 197e12)

    def test_a_training_step_sums_its_gradients_over_the_devices(self, capsys, tmp_path):
        path = tmp_path / "fit.json"
        words = ["--train", "--batch=8", "--size=16x16", "--frames=2", f"--json={path}"]
        assert main([SWRN, *self.SMALL, *words]) == 0
        assert "a training step on 8 clips of 2 frames of 16x16" in capsys.readouterr().out
        found = json.loads(path.read_text())
        count, size = found["collectives"]["all-reduce"].values()
        parameters = 2 * (10 + 4 + 4) * 36 + (8 + 4) * 36 + 4 * 9 * 48 + 8 * 4 + 48
        assert count >= 1 and size >= 4 * parameters

    def test_what_does_not_fit_is_said_by_the_exit_code(self, capsys):
        words = ["--topology=v5e:1x1", "--size=2000x2000", "--frames=40"]
        assert main(["--config=configs/bicubic.py", *words]) == 1
        assert "It does not fit: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([SWRN, "--size=180"], "--size must be HEIGHTxWIDTH, for example 180x320; got '180'"),
        ([SWRN, "--size=0x320"], "got '0x320'"),
        ([SWRN, "--frames=0"], "--frames=0: .*positive"),
        ([SWRN, "--rounds=-1"], "--rounds=-1: .*non-negative"),
        ([SWRN, "--dtype=float16"], "--dtype=float16 must be float32 or bfloat16"),
        (["--config=configs/swnr.py"], "no config file 'configs/swnr.py'; .* configs/swrn.py"),
        ([SWRN + ":tni"], "no variant 'tni', only reds, vimeo, tiny"),
        (["--config=tests/conftest.py"], "conftest.py is no config: it defines no get_config"),
        (
            [SWRN, "--config.model.dmi=8"],
            "no field --config.model.dmi; did you mean --config.model.dim",
        ),
        ([SWRN, "--config.model.dim=wide"], "model.dim=wide must be of the type of 16"),
        ([SWRN, "--cofnig.model.dim=8"], "Unknown command line flag .cofnig.model.dim"),
        ([], "give one of --config, --workdir and --compare"),
        ([SWRN, "--compare", "configs/swrn.py"], "give one of --config, --workdir and --compare"),
        (["--workdir=nowhere"], "--config is missing, and --workdir=nowhere holds no run"),
        (["--compare", "configs/swrn.py", "--topology=v5e:2x2"], "--compare and --topology cannot"),
        ([SWRN, "--workdir=W", "--topology=v5e:2x2"], "--topology and --workdir cannot"),
        ([SWRN, "--sweep_keep=a.png"], "--sweep_keep: configs/swrn.py has no masks"),
        ([MIA, "--sweep_keep=a.png", "--rounds=0"], "--rounds must be at least 1"),
        ([MIA, "--sweep_keep=a.png", "--topology=v5e:2x2"], "--topology and --sweep_keep cannot"),
        ([SWRN, "--train"], "--train needs --topology"),
        ([SWRN, "--workdir=nowhere"], "nowhere holds no run"),
        ([SWRN, "--input=nowhere.mp4"], "--input: .*nowhere.mp4"),
        ([MIA, "--config.model.align=True", "--size=32x32", "--rounds=0"], "at least 64x64"),
        ([SWRN, "--topology=v5e:3x3"], "unknown topology 'v5e:3x3'.*v5e:1x1, 2x2, .*v5p:2x2x1"),
        ([SWRN, "--topology=v9z:2x2"], "unknown topology 'v9z:2x2'"),
        ([SWRN, "--topology=v5e"], "unknown topology 'v5e'; .*: a100, h100, .*v4:2x2x1"),
    ],
)
def test_what_cannot_be_done_is_explained(words, message, capsys):
    assert_fails_with(words, message, capsys)
