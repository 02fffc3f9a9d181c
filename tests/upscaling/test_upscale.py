"""Videos and folders of images: what comes out, and what of the input is kept."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
from fractions import Fraction

import jax
import numpy as np
import pytest
import videos
from PIL import Image

from configs import swrn
from jaxvsr import models, presets
from jaxvsr import upscale as program
from jaxvsr.config import save_config
from jaxvsr.errors import InputError
from jaxvsr.training.checkpoints import Checkpoints
from jaxvsr.training.state import initial_weights
from jaxvsr.upscaling import compare, pipeline, segments
from jaxvsr.upscaling.stream import Settings
from jaxvsr.video.encoder import Wish
from jaxvsr.video.reader import Span

pytest.importorskip("av")
REPOSITORY = pathlib.Path(__file__).parents[2]
LOSSLESS = Wish(lossless=True)


def upscale(source, output, model=None, variables=None, origin=None, **request):
    model = videos.Repeat() if model is None else model
    pipeline.run(source, output, model, variables or {}, pipeline.Request(**request), origin or {})
    assert not output.with_name(output.name + ".parts").exists()
    return videos.read(output) if output.suffix else None


def larger(frames):
    return frames.repeat(2, 1).repeat(2, 2)


def test_a_video_with_sound(tmp_path, capsys):
    frames = videos.blocks()
    source = videos.write(
        tmp_path / "a.mp4",
        frames,
        codec="libx264",
        pix_fmt="yuv420p",
        sound=True,
        title="The title",
    )
    before, after = videos.read(source), upscale(source, tmp_path / "b.mp4")
    assert after.frames.shape == (20, 96, 128, 3) and after.context["name"] == "h264"
    assert np.abs(after.frames.astype(int) - larger(before.frames)).mean() < 2
    assert after.times == before.times
    assert after.sound == before.sound and len(after.sound) > 30
    assert after.metadata["title"] == "The title"
    # FFmpeg takes what says nothing for BT.601; we say it.
    assert after.context["colorspace"] == 6 and after.context["color_range"] == 1
    said = capsys.readouterr().out
    assert "20 frames in" in said and f"written: {tmp_path / 'b.mp4'}" in said
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".avi"])
def test_lossless_is_what_the_network_gives(tmp_path, suffix):
    frames = videos.blocks(7)
    source = videos.write(tmp_path / "a.mkv", frames)
    after = upscale(source, tmp_path / f"b{suffix}", wish=LOSSLESS, segment=3)
    np.testing.assert_array_equal(after.frames, larger(frames))
    assert after.times == pytest.approx([i / 25 for i in range(7)])


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_times_that_vary_are_kept(tmp_path, codec):
    """Frames that are coded in another order than they are shown, too, in several segments."""
    times = [0.1, 0.14, 0.2, 0.5, 0.52, 0.6, 0.9, 1.0, 1.3, 1.31, 1.4, 2.0]
    source = videos.write(tmp_path / "a.mkv", videos.blocks(12), times=times)
    for suffix in (".mkv", ".mp4"):
        after = upscale(source, tmp_path / f"b{suffix}", wish=Wish(codec=codec), segment=8)
        assert after.times == pytest.approx(times, abs=1e-3)
        assert np.abs(after.frames.astype(int) - larger(videos.blocks(12))).mean() < 3


def test_colour_is_carried_over(tmp_path):
    set_ = {"colorspace": 1, "color_range": 2, "color_primaries": 1, "color_trc": 1}
    frames = videos.blocks(3)
    source = videos.write(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt="yuv444p", **set_)
    after = upscale(source, tmp_path / "b.mkv", wish=Wish(codec="libx264", crf=1))
    assert {name: after.context[name] for name in set_} == set_
    assert after.context["pix_fmt"] in ("yuv444p", "yuvj444p")
    exact = upscale(source, tmp_path / "c.mkv", wish=LOSSLESS).frames
    assert np.abs(exact.astype(int) - larger(frames)).max() <= 2


def test_ten_bits_stay_ten_bits(tmp_path):
    frames = videos.blocks(3).astype(np.uint16) * 257 + 128
    source = videos.write(tmp_path / "a.mkv", frames, pix_fmt="gbrp10le")
    after = upscale(source, tmp_path / "b.mkv", wish=LOSSLESS)
    assert after.context["pix_fmt"] == "gbrp10le"
    assert np.abs(after.frames.astype(int) - larger(frames)).max() <= 2**6
    lossy = upscale(source, tmp_path / "c.mp4")
    assert lossy.context["name"] == "hevc" and lossy.context["pix_fmt"] == "yuv420p10le"


def test_pixel_aspect_and_rotation(tmp_path, capsys):
    frames = videos.blocks(3)
    source = videos.write(
        tmp_path / "a.mp4",
        frames,
        codec="libx264rgb",
        pix_fmt="rgb24",
        options={"qp": "0"},
        sample_aspect_ratio=Fraction(4, 3),
    )
    assert upscale(source, tmp_path / "b.mp4", wish=LOSSLESS).context["aspect"] == Fraction(4, 3)
    videos.rotate(source)
    assert abs(videos.read(source).rotation) == 90
    after = upscale(source, tmp_path / "c.mp4", wish=LOSSLESS)
    np.testing.assert_array_equal(after.frames, np.rot90(larger(frames), -1, (1, 2)))
    assert after.rotation == 0 and after.context["aspect"] == Fraction(3, 4)
    upscale(source, tmp_path / "d.mkv", wish=LOSSLESS)
    assert "ffv1 in .mkv cannot say that pixels are of shape 3/4" in capsys.readouterr().out


def test_a_part_with_its_sound(tmp_path):
    frames = videos.blocks(50)
    source = videos.write(
        tmp_path / "a.mkv", frames, codec="libx264", pix_fmt="yuv420p", sound=True, gop_size=10
    )
    span = Span(Fraction(7, 10), Fraction(3, 2))
    before, after = videos.read(source), upscale(source, tmp_path / "b.mkv", span=span)
    assert after.times == pytest.approx([i / 25 - 0.7 for i in range(18, 38)], abs=2e-3)
    assert np.abs(after.frames.astype(int) - larger(before.frames[18:38])).mean() < 2
    expected = [data for time, data in before.sound if 0.7 <= time < 1.5]
    assert [data for _, data in after.sound] == expected
    assert 0 <= after.sound[0][0] < 0.03


def test_subtitles_and_other_sound_are_copied(tmp_path):
    import av

    frames = videos.write(tmp_path / "a.mkv", videos.blocks(25))
    (tmp_path / "a.srt").write_text("1\n00:00:00,200 --> 00:00:00,600\nWe meet.\n\n")
    with (
        av.open(frames) as video,
        av.open(tmp_path / "a.srt") as text,
        av.open(tmp_path / "b.mkv", "w") as both,
    ):
        streams = [both.add_stream_from_template(c.streams[0]) for c in (video, text)]
        sound = both.add_stream("libmp3lame", rate=44100, layout="mono")
        streams[1].metadata["language"] = "nob"
        for stream, source in zip(streams, (video, text), strict=True):
            for packet in source.demux():
                if packet.size:
                    packet.stream = stream
                    both.mux(packet)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
        silence.sample_rate = 44100
        both.mux([*sound.encode(silence), *sound.encode()])
    upscale(tmp_path / "b.mkv", tmp_path / "c.mkv", wish=LOSSLESS)
    with av.open(tmp_path / "c.mkv") as found:
        kinds = [(s.type, s.codec_context.codec.canonical_name) for s in found.streams]
        assert kinds == [("video", "ffv1"), ("subtitle", "subrip"), ("audio", "mp3")]
        assert found.streams.subtitles[0].metadata["language"] == "nob"
        (line,) = [bytes(p) for p in found.demux(subtitles=0) if p.size]
    assert line == b"We meet."
    with pytest.raises(InputError, match="mp4 cannot hold the subtitle .*subrip"):
        upscale(tmp_path / "b.mkv", tmp_path / "c.mp4")
    upscale(tmp_path / "b.mkv", tmp_path / "c.mp4", copy=["sound"])


@pytest.mark.parametrize(
    ("height", "wish", "size"),
    [
        (150, Wish(), (150, 200)),
        (75, Wish(), (74, 100)),
        (75, Wish(codec="libx264", pixel_format="yuv444p"), (75, 100)),
    ],
)
def test_the_output_can_be_resized(tmp_path, height, wish, size):
    import dataclasses

    source = videos.write(tmp_path / "a.mkv", videos.blocks(2))
    wish = dataclasses.replace(wish, height=height)
    assert upscale(source, tmp_path / "b.mp4", wish=wish).frames.shape[1:3] == size


def test_folders_of_images(tmp_path):
    frames = videos.blocks(5)
    for i, frame in enumerate(frames):
        videos.write_png(tmp_path / "in" / f"{i}.png", frame)
    upscale(tmp_path / "in", tmp_path / "out", segment=2)
    names = [f"{i:08d}.png" for i in range(5)]
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == names
    found = [np.asarray(Image.open(tmp_path / "out" / name)) for name in names]
    np.testing.assert_array_equal(np.stack(found), larger(frames))
    upscale(tmp_path / "in", tmp_path / "out", images="jpg", overwrite=True, wish=Wish(height=24))
    assert len(list((tmp_path / "out").glob("*.jpg"))) == len(list((tmp_path / "out").iterdir()))
    assert Image.open(tmp_path / "out" / "00000004.jpg").size == (32, 24)
    video = upscale(tmp_path / "in", tmp_path / "v.mkv", wish=LOSSLESS, rate=Fraction(10))
    np.testing.assert_array_equal(video.frames, larger(frames))
    assert video.times == pytest.approx([i / 10 for i in range(5)])


def test_one_frame_of_odd_size(tmp_path):
    source = videos.write(tmp_path / "a.mkv", videos.blocks(1)[:, :47, :33])
    after = upscale(source, tmp_path / "b.mkv", wish=LOSSLESS)
    assert after.frames.shape == (1, 94, 66, 3)


def test_halves_and_sides_are_compared(tmp_path):
    source = videos.write(tmp_path / "a.mkv", videos.blocks(2))
    model = videos.Repeat()
    side = upscale(source, tmp_path / "b.mkv", wish=LOSSLESS, compare="side").frames
    split = upscale(source, tmp_path / "c.mkv", wish=LOSSLESS, compare="split").frames
    lq = videos.blocks(2)
    plain = np.stack([compare.bicubic(frame, model.scale, np.dtype("uint8")) for frame in lq])
    assert side.shape == (2, 96, 256, 3) and split.shape == (2, 96, 128, 3)
    assert (side[:, :, 127:129] == 255).all() and (split[:, :, 63:65] == 255).all()
    np.testing.assert_array_equal(side[:, :, :127], plain[:, :, :127])
    np.testing.assert_array_equal(side[:, :, 129:], larger(lq)[:, :, 1:])
    np.testing.assert_array_equal(split[:, :, :63], plain[:, :, :63])
    np.testing.assert_array_equal(split[:, :, 65:], larger(lq)[:, :, 65:])


def test_a_frame_is_shown_first(tmp_path):
    source = videos.write(tmp_path / "a.mkv", videos.blocks(20))
    upscale(source, tmp_path / "b.mkv", wish=LOSSLESS, preview=11)
    picture = np.asarray(Image.open(tmp_path / "b.mkv.preview.png"))
    np.testing.assert_array_equal(picture[-96:, -128:], larger(videos.blocks(20))[11])


CODE = """
import os, signal, sys
sys.path.insert(0, "tests")
import test_upscale as t
from jaxvsr.upscaling import segments
close = segments.Work._close
def killed(self, *args):
    close(self, *args)
    if len(self.counts) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
segments.Work._close = killed
t.upscale_by_network(*map(t.pathlib.Path, sys.argv[1:3]), sys.argv[3])
"""


def upscale_by_network(source, output, kind, **request):
    """By a tiny network that goes from frame to frame, or one that sees the whole clip."""
    if kind == "swrn":
        model = models.create("swrn", dim=4, num_blocks=1)
        shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 2, 64, 64, 3)))
        rng = np.random.default_rng(0)
        weights = jax.tree.map(lambda x: 0.2 * rng.standard_normal(x.shape, np.float32), shapes)
        settings = Settings(chunk=4)
    else:
        model, weights, settings = videos.Mean(), {}, Settings(chunk=8, overlap=4)
    request = {"wish": LOSSLESS, "segment": 5, "settings": settings} | request
    return upscale(source, output, model, weights, **request)


@pytest.mark.parametrize("kind", ["swrn", "whole"])
def test_a_killed_run_goes_on(tmp_path, kind, capsys):
    source = videos.write(tmp_path / "a.mkv", videos.blocks(26), sound=True)
    output = tmp_path / "b.mkv"
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", CODE, source, output, kind]
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not output.exists()
    with pytest.raises(InputError, match="broken off: go on with --resume, or start anew"):
        upscale_by_network(source, output, kind)
    with pytest.raises(InputError, match="(?s)begun otherwise.*start: '0' there, '1' asked for"):
        upscale_by_network(source, output, kind, resume=True, span=Span(Fraction(1)))
    capsys.readouterr()
    resumed = upscale_by_network(source, output, kind, resume=True)
    assert f"going on after {16 if kind == 'swrn' else 10} frames" in capsys.readouterr().out
    alone = upscale_by_network(source, tmp_path / "c.mkv", kind)
    np.testing.assert_array_equal(resumed.frames, alone.frames)
    assert resumed.times == alone.times and resumed.sound == alone.sound
    assert len(alone.frames) == 26 and len(alone.sound) > 30


def test_a_run_that_stopped_while_joining_goes_on(tmp_path, monkeypatch):
    for i, frame in enumerate(videos.blocks(5)):
        videos.write_png(tmp_path / "in" / f"{i}.png", frame)
    source = videos.write(tmp_path / "a.mkv", videos.blocks(5))

    def stop(*args):
        raise KeyboardInterrupt

    network = {"model": videos.Trail(), "settings": Settings(chunk=2), "segment": 2}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(segments, "replace", stop)
        upscale(source, tmp_path / "c.mkv", wish=LOSSLESS, **network)
    assert (
        len(upscale(source, tmp_path / "c.mkv", wish=LOSSLESS, resume=True, **network).frames) == 5
    )
    for where, output in ((source, tmp_path / "b.mkv"), (tmp_path / "in", tmp_path / "out")):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(segments, "replace", stop)
            upscale(where, output, wish=LOSSLESS, segment=2)
        assert not output.exists()
        upscale(where, output, wish=LOSSLESS, segment=2, resume=True)
    np.testing.assert_array_equal(videos.read(tmp_path / "b.mkv").frames, larger(videos.blocks(5)))
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_the_command(tmp_path):
    """With a checkpoint, as `jaxvsr.convert` and trainings leave them."""
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
    plain = np.stack([compare.bicubic(f, 4, np.dtype("uint8")) for f in videos.blocks(12)[5:]])
    assert np.abs(found.frames.astype(int) - plain).mean() < 60


def upscale_by_command(source, *flags):
    command = [sys.executable, "-m", "jaxvsr.upscale", source, source.with_name("b.mkv"), *flags]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


def test_the_command_without_a_network_takes_the_built_in_one(tmp_path):
    source = videos.write(tmp_path / "a.mkv", videos.blocks(3))
    done = upscale_by_command(source, "--lossless")
    assert done.returncode == 0, done.stderr
    model, variables, _ = presets.load(presets.DEFAULT)
    expected = program.upscale(videos.blocks(3), model, variables)
    np.testing.assert_array_equal(videos.read(source.with_name("b.mkv")).frames, expected)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset=large"], f"no preset 'large', only .*{presets.DEFAULT}"),
        (["--preset=swrn", "--config=configs/swrn.py"], "leave out --config"),
        (["--checkpoint=runs/mine"], "--checkpoint needs --config"),
        (["--config=configs/swrn.py"], "swrn needs --checkpoint"),
    ],
)
def test_a_network_that_is_named_wrongly_is_explained(tmp_path, flags, message):
    done = upscale_by_command(tmp_path / "a.mkv", *flags)
    assert done.returncode == 1 and re.search(f"^error: .*{message}", done.stderr, re.MULTILINE)
    assert not list(tmp_path.iterdir())


def test_hosts_go_on_after_a_stop_each_in_its_own_segments(tmp_path):
    """Of segments 0 and 1 one is whole, of those from 2 on another one."""
    frames = [(i, np.zeros((4, 4, 3), np.uint8), None) for i in range(4)]

    def work(*place):
        return segments.Work(tmp_path / "out", {"asked": 1}, *place)

    def open_part(_):
        return segments.ImagesPart(work().folder, ".png", 95, 0)

    first, second = (range(2), 0), (range(2, 2**31), 6)
    work().begin()
    for place in (first, second):
        work(*place).write(frames[:3], open_part, 3)
    assert sorted(path.stem for path in work().folder.glob("*.png")) == [
        f"{i:08d}" for i in (0, 1, 2, 6, 7, 8)
    ]
    for place, count in ((first, 1), (second, 2)):
        again = work(*place)
        again.resume()
        assert again.done == place[1] + 3
        again.write(frames[: 3 * count - 2], open_part, 3)
    whole = work()
    whole.resume()
    assert whole.counts == [3, 1, 3, 3, 1]
