"""The command `upscale`: its networks and flags."""

import contextlib
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import videos

from configs import swrn
from jaxvsr import cli, models, presets
from jaxvsr import upscale as program
from jaxvsr.config import save_config
from jaxvsr.training.checkpoints import Checkpoints
from jaxvsr.training.state import initial_weights
from jaxvsr.upscaling.stream import Settings

pytest.importorskip("av")
REPOSITORY = pathlib.Path(__file__).parents[1]


def test_the_command(tmp_path):
    """With a checkpoint, as `jaxvsr.convert` and training write it."""
    config = swrn.get_config("tiny")
    weights = initial_weights(models.create(**config.model), jax.random.key(0), ema=False)
    workdir = tmp_path / "run"
    workdir.mkdir()
    save_config(config, workdir)
    with contextlib.closing(Checkpoints(workdir)) as checkpoints:
        checkpoints.save_weights(weights)
    source = videos.write(tmp_path / "a.mkv", videos.blocks(12), sound=True)
    command = [sys.executable, "-m", "jaxvsr.upscale", source, tmp_path / "b.mkv"]
    flags = ["--config=configs/swrn.py:tiny", "--start=0:00.2", "--lossless", "--copy=subtitles"]
    command += [*flags, f"--checkpoint={workdir}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = videos.read(tmp_path / "b.mkv")
    assert found.frames.shape == (7, 192, 256, 3) and not found.sound
    model = models.create(**config.model)
    settings = Settings(warm_up=True)
    expected = program.upscale(videos.blocks(12)[5:], model, weights.variables, settings)
    np.testing.assert_array_equal(found.frames, expected)


def run(*words):
    return cli.run_command(program.command("upscale"), list(map(str, words)))


def test_the_default_is_the_built_in_network(tmp_path):
    source = videos.write(tmp_path / "a.mkv", videos.blocks(3))
    assert run(source, tmp_path / "b.mkv", "--lossless") == 0
    model, variables, _ = presets.load(presets.DEFAULT)
    expected = program.upscale(videos.blocks(3), model, variables, Settings(warm_up=True))
    np.testing.assert_array_equal(videos.read(tmp_path / "b.mkv").frames, expected)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset=large"], f"no preset 'large', only .*{presets.DEFAULT}"),
        (["--preset=swrn", "--config=configs/swrn.py"], "--preset has its own config"),
        (["--checkpoint=runs/mine"], "--checkpoint needs --config"),
        (["--config=configs/swrn.py"], "swrn needs --checkpoint"),
        (["--tile=320"], "--tile must be WIDTHxHEIGHT, for example 320x180; got '320'"),
        (["--start=1m"], "a time must be like 90"),
    ],
)
def test_wrong_flags_are_explained(tmp_path, capsys, flags, message):
    assert run(tmp_path / "a.mkv", tmp_path / "b.mkv", *flags) == 1
    assert re.search(f"^error: .*{message}", capsys.readouterr().err, re.MULTILINE)
    assert not list(tmp_path.iterdir())


def test_built_in_weights_need_no_tensorflow():
    code = (
        "import sys, jaxvsr.upscale; print([m for m in sys.modules if m.startswith('tensorflow')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
