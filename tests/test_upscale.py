"""The command `upscale`: its networks and flags."""

import contextlib
import pathlib
import re
import subprocess
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest
import videos

from configs import swrn
from jaxvsr import cli, models, presets
from jaxvsr import upscale as program
from jaxvsr.config import save_config
from jaxvsr.errors import InputError
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
    command += ["--start=0:00.2", "--lossless", "--copy=subtitles", f"--workdir={workdir}"]
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
        (["--preset=swrn", "--config=configs/swrn.py"], "--preset has its own weights"),
        (["--preset=swrn", "--workdir=runs/mine"], "--preset has its own weights"),
        (["--checkpoint=runs/mine"], "--config is missing, and --workdir=runs/mine holds no run"),
        (["--config=configs/swrn.py"], "swrn needs --workdir"),
        (["--config.model.dim=8"], "fields of a config need --workdir=RUN or --config=FILE"),
        (["--tile=320"], "--tile must be WIDTHxHEIGHT, for example 320x180; got '320'"),
        (["--start=1m"], "a time must be like 90"),
    ],
)
def test_wrong_flags_are_explained(tmp_path, capsys, flags, message):
    assert run(tmp_path / "a.mkv", tmp_path / "b.mkv", *flags) == 1
    assert re.search(f"^error: .*{message}", capsys.readouterr().err, re.MULTILINE)
    assert not list(tmp_path.iterdir())


def test_the_sample_needs_no_input(tmp_path, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(program, "upscale_file", lambda *values: calls.append(values))
    assert run("--sample", tmp_path / "out.mp4") == 0
    ((source, output, *_),) = calls
    assert "CC BY 3.0" in capsys.readouterr().out
    assert videos.read(source).frames.shape == (50, 180, 320, 3) and source.stat().st_size < 150_000
    assert output == tmp_path / "out.mp4"


def test_presets_are_listed_with_what_was_measured(tmp_path, capsys):
    fresh = {"model": {"name": "swrn", "dim": 4, "num_blocks": 1}, "train": {"seed": 0}}
    for name in ("known", "new"):
        presets.save(name, {"params": {"kernel": np.zeros(1234, np.float32)}}, fresh, tmp_path)
    clips = {"calendar": {"bicubic": 20.25, "preset": 21.0}}
    measured = {"psnr_y": clips, "milliseconds": 12.4, "machine": "a phone"}
    presets.record("known", measured, tmp_path)
    head, _, known, new, *_, foot = program.table_of_presets(tmp_path).splitlines()
    assert re.search(r"calendar +\| time a frame", head) and foot.endswith("180x320: a phone.")
    assert re.search(r"known +\| x4 .*1,234 \| 5 kB \| 21.00 \(\+0.75\) \| 12 ms", known)
    assert re.search(r"new +\| x4 .*1,234 \| 5 kB \| +\| +\|", new)
    assert run("--list") == 0
    assert re.search(rf"\| {presets.DEFAULT} \(default\) +\| x4 ", capsys.readouterr().out)


LOSSY = {"codec": "libx264", "pix_fmt": "yuv420p"}


@pytest.fixture
def with_video(tmp_path, monkeypatch):
    """Built-in weights of which "video" is one: its output is that of bicubic interpolation."""
    folder = tmp_path / "presets"
    folder.mkdir()
    swrn = {"name": "swrn", "dim": 4, "num_blocks": 1}
    for name, fields in (("swrn", swrn), ("video", {"name": "bicubic"})):
        model = models.create(**fields)
        variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 2, 8, 8, 3)))
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables)
        presets.save(name, zeros, {"model": fields}, folder)
    for function in (presets.names, presets.load, presets.size):
        monkeypatch.setattr(function, "__defaults__", (folder,))


@pytest.mark.parametrize(
    ("name", "set_", "flags", "preset", "reason"),
    [
        ("a.mp4", LOSSY, [], "video", "a.mp4 is compressed (h264); --preset=swrn is faster"),
        ("a.mp4", LOSSY, ["--preset=swrn"], "swrn", ""),
        ("a.mkv", {}, [], "swrn", "a.mkv is lossless; --preset=video is for compressed video"),
        ("a.mkv", {}, ["--preset=video"], "video", ""),
        ("a.png", None, [], "swrn", "a.png holds images; --preset=video"),
    ],
)
def test_the_preset_fits_the_input(
    tmp_path, with_video, monkeypatch, capsys, name, set_, flags, preset, reason
):
    source = tmp_path / name
    if set_ is None:
        videos.write_png(source, videos.blocks(1)[0])
    else:
        videos.write(source, videos.blocks(2), **set_)
    calls = []
    monkeypatch.setattr(program, "upscale_file", lambda *values: calls.append(values))
    assert run(source, tmp_path / f"out{source.suffix}", *flags) == 0
    ((*_, origin),) = calls
    assert origin["preset"] == preset
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("preset ")]
    assert len(said) == bool(reason)
    assert not reason or said[0].startswith(f"preset {preset}: {tmp_path}/{reason}")


def test_the_list_says_which_presets_are_chosen(with_video):
    listed = program.table_of_presets(presets.load.__defaults__[0])
    assert "| swrn (default) " in listed and "| video (default for compressed video) " in listed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--list", "a.mp4"], "--list stands alone: leave out a.mp4"),
        (["--list", "--crf=20"], "--list stands alone: leave out --crf"),
        (["--list", "--sample", "b.mp4"], "--list and --sample exclude each other"),
        (["--sample"], "OUTPUT missing. Example:\n    jaxvsr upscale --sample out.mp4"),
        (["--sample", "a.mp4", "b.mp4"], "--sample takes OUTPUT only; got a.mp4 b.mp4"),
    ],
)
def test_what_stands_in_for_the_arguments(capsys, words, message):
    assert run(*words) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_built_in_weights_need_no_tensorflow():
    code = (
        "import sys, jaxvsr.upscale; print([m for m in sys.modules if m.startswith('tensorflow')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


FRAMES = np.zeros((2, 8, 12, 3), np.uint8)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (FRAMES / 255, "frame 0 is float64; expected uint8 or uint16 .*to_integers"),
        (FRAMES.astype(np.float32), "frame 0 is float32; expected uint8 or uint16"),
        (FRAMES.astype(np.int64), "frame 0 is int64; expected uint8"),
        (FRAMES > 0, "frame 0 is bool; expected uint8"),
        (FRAMES[0], r"frame 0 has shape \(12, 3\); expected \(h, w, 3\)"),
        (FRAMES[None], r"frame 0 has shape \(2, 8, 12, 3\); expected"),
        (FRAMES[..., 0], r"frame 0 has shape \(8, 12\); expected"),
        (np.moveaxis(FRAMES, -1, 1), r"frame 0 has shape \(3, 8, 12\).*move the channels"),
        (FRAMES[..., [0, 1, 2, 0]], r"frame 0 has shape \(8, 12, 4\); expected"),
        (FRAMES[:0], "there are no frames"),
        (FRAMES[:, :0], r"frame 0 has shape \(0, 12, 3\): it holds no pixels"),
        ([FRAMES[0], FRAMES[0, :4]], r"frame 1 has shape \(4, 12, 3\) .* frame 0 has \(8, 12, 3\)"),
        ([FRAMES[0], FRAMES[0].astype(np.uint16)], "frame 1 .* dtype uint16, but frame 0 .* uint8"),
    ],
)
def test_frames_of_another_kind_are_refused(frames, message):
    for call in (program.upscale, lambda *values: list(program.stream(*values))):
        with pytest.raises(InputError, match=message):
            call(frames, videos.Repeat(), {})


class Silent(nn.Module):
    """A network that does not say how far it looks ahead."""

    scale = 2

    def __call__(self, lq, train=False):
        return videos.Mean(parent=None).apply({}, lq)


def test_a_network_that_does_not_tell_its_lookahead_gets_the_whole_clip(tmp_path):
    clip = videos.blocks(7)
    expected = program.upscale(clip, videos.Mean(), {})
    np.testing.assert_array_equal(program.upscale(clip, Silent(), {}), expected)
    source = videos.write(tmp_path / "a.mkv", clip)
    found = videos.upscale(source, tmp_path / "b.mkv", Silent(), encoder=videos.LOSSLESS)
    np.testing.assert_array_equal(found.frames, expected)
