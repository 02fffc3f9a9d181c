"""Upscaling of files: the output, what is kept from the input, and resumed runs."""

import os
import pathlib
import signal
import subprocess
import sys
from fractions import Fraction

import jax
import numpy as np
import pytest
import videos
from PIL import Image
from videos import LOSSLESS, larger, upscale

from jaxvsr import models
from jaxvsr.errors import InputError
from jaxvsr.upscaling import segments
from jaxvsr.upscaling.stream import Settings
from jaxvsr.video.encoding import EncoderOptions
from jaxvsr.video.images import read_image, write_image
from jaxvsr.video.reading import TimeRange

pytest.importorskip("av")
PLAIN = EncoderOptions()
REPOSITORY = pathlib.Path(__file__).parents[2]


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
def test_lossless_stores_the_exact_output(tmp_path, suffix):
    frames = videos.blocks(7)
    source = videos.write(tmp_path / "a.mkv", frames)
    after = upscale(source, tmp_path / f"b{suffix}", encoder=LOSSLESS, segment=3)
    np.testing.assert_array_equal(after.frames, larger(frames))
    assert after.times == pytest.approx([i / 25 for i in range(7)])


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_variable_frame_rates_are_kept(tmp_path, codec):
    """In several segments, and with frames that are coded in another order than displayed."""
    times = [0.1, 0.14, 0.2, 0.5, 0.52, 0.6, 0.9, 1.0, 1.3, 1.31, 1.4, 2.0]
    source = videos.write(tmp_path / "a.mkv", videos.blocks(12), times=times)
    for suffix in (".mkv", ".mp4"):
        after = upscale(
            source, tmp_path / f"b{suffix}", encoder=EncoderOptions(codec=codec), segment=8
        )
        assert after.times == pytest.approx(times, abs=1e-3)
        assert np.abs(after.frames.astype(int) - larger(videos.blocks(12))).mean() < 3


def test_the_color_space_is_kept(tmp_path):
    set_ = {"colorspace": 1, "color_range": 2, "color_primaries": 1, "color_trc": 1}
    frames = videos.blocks(3)
    source = videos.write(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt="yuv444p", **set_)
    after = upscale(source, tmp_path / "b.mkv", encoder=EncoderOptions(codec="libx264", crf=1))
    assert {name: after.context[name] for name in set_} == set_
    assert after.context["pix_fmt"] in ("yuv444p", "yuvj444p")
    exact = upscale(source, tmp_path / "c.mkv", encoder=LOSSLESS).frames
    assert np.abs(exact.astype(int) - larger(frames)).max() <= 2


def test_10_bits_stay_10_bits(tmp_path):
    frames = videos.blocks(3).astype(np.uint16) * 257 + 128
    source = videos.write(tmp_path / "a.mkv", frames, pix_fmt="gbrp10le")
    after = upscale(source, tmp_path / "b.mkv", encoder=LOSSLESS)
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
    assert upscale(source, tmp_path / "b.mp4", encoder=LOSSLESS).context["aspect"] == Fraction(4, 3)
    videos.rotate(source)
    assert abs(videos.read(source).rotation) == 90
    after = upscale(source, tmp_path / "c.mp4", encoder=LOSSLESS)
    np.testing.assert_array_equal(after.frames, np.rot90(larger(frames), -1, (1, 2)))
    assert after.rotation == 0 and after.context["aspect"] == Fraction(3, 4)
    upscale(source, tmp_path / "d.mkv", encoder=LOSSLESS)
    assert "ffv1 in .mkv cannot store the pixel aspect ratio 3/4" in capsys.readouterr().out


def test_a_time_range_with_its_sound(tmp_path):
    frames = videos.blocks(50)
    source = videos.write(
        tmp_path / "a.mkv", frames, codec="libx264", pix_fmt="yuv420p", sound=True, gop_size=10
    )
    span = TimeRange(Fraction(7, 10), Fraction(3, 2))
    before, after = videos.read(source), upscale(source, tmp_path / "b.mkv", part=span)
    assert after.times == pytest.approx([i / 25 - 0.7 for i in range(18, 38)], abs=2e-3)
    assert np.abs(after.frames.astype(int) - larger(before.frames[18:38])).mean() < 2
    expected = [data for time, data in before.sound if 0.7 <= time < 1.5]
    assert [data for _, data in after.sound] == expected
    assert 0 <= after.sound[0][0] < 0.03


def test_subtitles_and_sound_of_other_codecs_are_copied(tmp_path):
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
    upscale(tmp_path / "b.mkv", tmp_path / "c.mkv", encoder=LOSSLESS)
    with av.open(tmp_path / "c.mkv") as found:
        kinds = [(s.type, s.codec_context.codec.canonical_name) for s in found.streams]
        assert kinds == [("video", "ffv1"), ("subtitle", "subrip"), ("audio", "mp3")]
        assert found.streams.subtitles[0].metadata["language"] == "nob"
        (line,) = [bytes(p) for p in found.demux(subtitles=0) if p.size]
    assert line == b"We meet."
    upscale(tmp_path / "b.mkv", tmp_path / "c.mp4")
    with av.open(tmp_path / "c.mp4") as found:
        kinds = [(s.type, s.codec_context.codec.canonical_name) for s in found.streams]
    assert kinds == [("video", "h264"), ("subtitle", "mov_text"), ("audio", "mp3")]
    with pytest.raises(InputError, match="webm cannot hold the audio stream .*mp3"):
        upscale(tmp_path / "b.mkv", tmp_path / "c.webm")
    upscale(tmp_path / "b.mkv", tmp_path / "c.webm", copy=["subtitles"])


@pytest.mark.parametrize(
    ("height", "wish", "size"),
    [
        (150, EncoderOptions(), (150, 200)),
        (75, EncoderOptions(), (74, 100)),
        (75, EncoderOptions(codec="libx264", pixel_format="yuv444p"), (75, 100)),
    ],
)
def test_the_output_can_be_resized(tmp_path, height, wish, size):
    import dataclasses

    source = videos.write(tmp_path / "a.mkv", videos.blocks(2))
    wish = dataclasses.replace(wish, height=height)
    assert upscale(source, tmp_path / "b.mp4", encoder=wish).frames.shape[1:3] == size


def test_folders_of_images(tmp_path):
    frames = videos.blocks(5)
    for i, frame in enumerate(frames):
        videos.write_png(tmp_path / "in" / f"{i}.png", frame)
    upscale(tmp_path / "in", tmp_path / "out", segment=2)
    names = [f"{i:08d}.png" for i in range(5)]
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == names
    found = [np.asarray(Image.open(tmp_path / "out" / name)) for name in names]
    np.testing.assert_array_equal(np.stack(found), larger(frames))
    upscale(
        tmp_path / "in",
        tmp_path / "out",
        images="jpg",
        overwrite=True,
        encoder=EncoderOptions(height=24),
    )
    assert len(list((tmp_path / "out").glob("*.jpg"))) == len(list((tmp_path / "out").iterdir()))
    assert Image.open(tmp_path / "out" / "00000004.jpg").size == (32, 24)
    video = upscale(tmp_path / "in", tmp_path / "v.mkv", encoder=LOSSLESS, rate=Fraction(10))
    np.testing.assert_array_equal(video.frames, larger(frames))
    assert video.times == pytest.approx([i / 10 for i in range(5)])


def test_one_frame_of_odd_size(tmp_path):
    source = videos.write(tmp_path / "a.mkv", videos.blocks(1)[:, :47, :33])
    after = upscale(source, tmp_path / "b.mkv", encoder=LOSSLESS)
    assert after.frames.shape == (1, 94, 66, 3)


CODE = """
import os, signal, sys
sys.path[:0] = ["tests", "tests/upscaling"]
import test_pipeline as t
from jaxvsr.upscaling import segments
add = segments.PacketWriter.add
def killed(self, pixels, index):
    if index == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, pixels, index)
segments.PacketWriter.add = killed
t.upscale_by_network(*map(t.pathlib.Path, sys.argv[1:3]), sys.argv[3])
"""


def upscale_by_network(source, output, kind, **request):
    """Upscales with a tiny network that has a state, or one that sees the whole clip."""
    if kind == "swrn":
        model = models.create("swrn", dim=4, num_blocks=1)
        shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 2, 64, 64, 3)))
        rng = np.random.default_rng(0)
        weights = jax.tree.map(lambda x: 0.2 * rng.standard_normal(x.shape, np.float32), shapes)
        settings = Settings(chunk=4)
    else:
        model, weights, settings = videos.Mean(), {}, Settings(chunk=8, overlap=4)
    request = {"encoder": LOSSLESS, "segment": 5, "settings": settings} | request
    return upscale(source, output, model, weights, **request)


@pytest.mark.parametrize(("kind", "done_before"), [("swrn", 16), ("whole", 10)])
def test_a_killed_run_is_resumed(tmp_path, kind, done_before, capsys):
    source = videos.write(tmp_path / "a.mkv", videos.blocks(26), sound=True)
    output = tmp_path / "b.mkv"
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", CODE, source, output, kind, str(done_before + 1)]
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not output.exists()
    with pytest.raises(
        InputError, match="interrupted run: continue it with --resume, or start anew"
    ):
        upscale_by_network(source, output, kind)
    with pytest.raises(InputError, match="(?s)other settings.*start: '0' then, '1' now"):
        upscale_by_network(source, output, kind, resume=True, part=TimeRange(Fraction(1)))
    capsys.readouterr()
    resumed = upscale_by_network(source, output, kind, resume=True)
    assert f"resuming after {done_before} frames" in capsys.readouterr().out
    alone = upscale_by_network(source, tmp_path / "c.mkv", kind)
    np.testing.assert_array_equal(resumed.frames, alone.frames)
    assert resumed.times == alone.times and resumed.sound == alone.sound
    assert len(alone.frames) == 26 and len(alone.sound) > 30


def test_a_run_that_stopped_while_joining_is_resumed(tmp_path, monkeypatch):
    for i, frame in enumerate(videos.blocks(5)):
        videos.write_png(tmp_path / "in" / f"{i}.png", frame)
    source = videos.write(tmp_path / "a.mkv", videos.blocks(5))

    def stop(*args):
        raise KeyboardInterrupt

    network = {"model": videos.Trail(), "settings": Settings(chunk=2), "segment": 2}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(segments.SegmentFolder, "place", stop)
        upscale(source, tmp_path / "c.mkv", encoder=LOSSLESS, **network)
    resumed = upscale(source, tmp_path / "c.mkv", encoder=LOSSLESS, resume=True, **network)
    assert len(resumed.frames) == 5
    cases = (source, tmp_path / "b.mkv", LOSSLESS), (tmp_path / "in", tmp_path / "out", PLAIN)
    for where, output, encoder in cases:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(segments.SegmentFolder, "place", stop)
            upscale(where, output, encoder=encoder, segment=2)
        assert not output.exists()
        upscale(where, output, encoder=encoder, segment=2, resume=True)
    np.testing.assert_array_equal(videos.read(tmp_path / "b.mkv").frames, larger(videos.blocks(5)))
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_the_readable_part_of_a_truncated_file_is_upscaled(tmp_path, capsys):
    frames = videos.blocks(40)
    source = videos.write(tmp_path / "a.mkv", frames)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    upscale(source, tmp_path / "b.mkv", videos.Repeat(), encoder=LOSSLESS)
    found = videos.read(tmp_path / "b.mkv").frames
    assert 10 < len(found) < 40
    np.testing.assert_array_equal(found, frames[: len(found)].repeat(2, 1).repeat(2, 2))
    said = capsys.readouterr().out
    assert f"truncated; {len(found)} of about 40 frames were read" in said


def test_frames_of_changing_size(tmp_path):
    folder = tmp_path / "in"
    for i, height in enumerate((48, 48, 32)):
        videos.write_png(folder / f"{i}.png", videos.blocks(1, height)[0])
    with pytest.raises(InputError, match="2.png is 64x32, but the images before it are 64x48"):
        upscale(folder, tmp_path / "out", videos.Repeat())
    assert not (tmp_path / "out").exists()
    # Streams of H.264 one after the other make a video of two sizes.
    parts = [
        videos.write(
            tmp_path / f"{height}.h264",
            videos.blocks(4, height),
            codec="libx264",
            pix_fmt="yuv420p",
        )
        for height in (48, 32)
    ]
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(InputError, match="frames change from 64x48 to 64x32"):
        upscale(both, tmp_path / "b.mkv", videos.Repeat())
    assert not (tmp_path / "b.mkv").exists()


def test_images_of_16_bits_stay_16_bits(tmp_path):
    frames = videos.blocks(2).astype(np.uint16) * 257 + 100
    for i, frame in enumerate(frames):
        write_image(tmp_path / "in" / f"{i}.png", frame)
    upscale(tmp_path / "in", tmp_path / "out")
    for i, frame in enumerate(frames):
        found = read_image(tmp_path / "out" / f"{i:08d}.png")
        np.testing.assert_array_equal(found, frame.repeat(2, 0).repeat(2, 1))
    upscale(tmp_path / "in", tmp_path / "jpegs", images="jpg", quality=100)
    found = read_image(tmp_path / "jpegs" / "00000001.jpg")
    assert found.dtype == np.uint8 and np.abs(found - (larger(frames)[1] / 257)).mean() < 2
    video = upscale(tmp_path / "in", tmp_path / "v.mkv", encoder=LOSSLESS)
    assert video.context["pix_fmt"] == "gbrp10le"
