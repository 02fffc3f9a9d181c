"""Impossible requests are refused in one line, before long work, and nothing is left behind."""

import builtins
import os
from fractions import Fraction

import numpy as np
import pytest
import videos
from videos import LOSSLESS

from jaxvsr.errors import InputError
from jaxvsr.upscaling.pipeline import upscale_file
from jaxvsr.upscaling.request import Request, parse_option, parse_rate, parse_tile, parse_time
from jaxvsr.upscaling.stream import Settings
from jaxvsr.video.encoding import EncoderOptions
from jaxvsr.video.reading import TimeRange

pytest.importorskip("av")


class Never(videos.Repeat):
    """A network that must not be called."""

    def __call__(self, lq, train=False):
        raise AssertionError


def upscale(source, output, model=None, **request):
    upscale_file(source, output, model or Never(), {}, Request(**request), {})


def encoder(**options):
    return {"encoder": EncoderOptions(**options)}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "a.mp4"
    frames = videos.blocks(12)
    return videos.write(path, frames, codec="libx264", pix_fmt="yuv420p", sound=True)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    for i, frame in enumerate(videos.blocks(2)):
        videos.write_png(path / f"{i}.png", frame)
    return path


@pytest.mark.parametrize(
    ("output", "request_", "message"),
    [
        ("b.mp4", encoder(codec="libx256"), "--codec=libx256: .* no such encoder"),
        ("b.mp4", encoder(codec="aac"), "--codec=aac is not a video encoder"),
        ("b.mp4", encoder(codec="huffyuv"), "huffyuv cannot encode 128x96 .* in .mp4"),
        (
            "b.webm",
            {},
            ".webm cannot hold the audio stream .*aac.*: use an output .mkv, or .*--copy",
        ),
        ("b.xyz", {}, "unknown container '.xyz'; use .mp4"),
        ("b.mp4", encoder(codec="mpeg4", crf=20), "--crf is not an option of mpeg4"),
        ("b.mp4", encoder(codec="mpeg4", lossless=True), "mpeg4 has no lossless mode"),
        ("b.mp4", encoder(pixel_format="bgr24"), "--pix_fmt=bgr24: libx264 takes yuv420p"),
        ("b.mp4", encoder(pixel_format="yuv9"), "--pix_fmt=yuv9: FFmpeg has no such"),
        ("b.mp4", encoder(options=(("presset", "slow"),)), "libx264 has no option presset"),
        ("no/b.mp4", {}, "there is no folder .*/no to write into"),
        ("b.mp4", {"compare": "both"}, "--compare must be one of: side, split; got 'both'"),
        ("b.mp4", {"copy": ["sound", "smell"]}, "--copy must list .*sound, .*; got 'smell'"),
        ("b.mp4", {"part": TimeRange(Fraction(2), Fraction(1))}, "--end must be later"),
        ("b.mp4", {"part": TimeRange(Fraction(9))}, "no frames to upscale"),
        ("b", {"images": "gif"}, "--images must be one of: png, jpg, .*; got 'gif'"),
        ("b.mp4", {"rate": Fraction(5)}, "--fps is for folders"),
        ("b.mp4", {"preview": 12}, "--preview=12: the input has no such frame"),
    ],
)
def test_impossible_requests(video, tmp_path, output, request_, message):
    model = videos.Repeat() if "preview" in request_ else None
    with pytest.raises(InputError, match=message):
        upscale(video, tmp_path / output, model, **request_)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "request_", "message"),
    [
        ("b", encoder(codec="libx264"), "--codec is for videos, but the output .*b is a folder"),
        ("b", encoder(crf=20), "--crf is for videos"),
        ("b", {"encoder": LOSSLESS}, "--lossless is for videos"),
        ("b", encoder(pixel_format="yuv420p"), "--pix_fmt is for videos"),
        ("b", encoder(options=(("preset", "slow"),)), "--codec_options is for videos"),
        ("b", {"copy": ["sound"]}, "--copy is for videos, but the output"),
        ("b.mp4", {"images": "jpg"}, "--images is for folders of images, .*b.mp4 is a video"),
        ("b.mp4", {"quality": 90}, "--quality is for folders of images"),
        ("b", {"quality": 90}, "--quality is for JPEG and WebP: add --images=jpg"),
        ("b.mp4", {"settings": Settings(overlap=16)}, "--overlap is for networks .*: leave it out"),
    ],
)
def test_options_that_would_do_nothing(video, tmp_path, output, request_, message):
    with pytest.raises(InputError, match=message):
        upscale(video, tmp_path / output, **request_)
    assert not list(tmp_path.iterdir())


def test_streams_of_a_folder_cannot_be_copied(images, tmp_path):
    with pytest.raises(InputError, match="--copy is for videos, but the input .* is a folder"):
        upscale(images, tmp_path / "b.mp4", copy=["sound"])


def test_an_overlap_is_used_where_a_network_sees_the_whole_clip(video, tmp_path):
    settings = Settings(chunk=8, overlap=2)
    upscale(video, tmp_path / "b.mp4", videos.Mean(), settings=settings)
    with pytest.raises(InputError, match=r"finite lookahead \(1\), .* leave it out"):
        upscale(video, tmp_path / "c.mp4", videos.Trail(), settings=settings)


def text(path):
    path.write_text("This is no video.\n" * 100)


def sound_alone(path):
    import av

    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def truncated(path):
    videos.write(path, videos.blocks(5), codec="libx264", pix_fmt="yuv420p")
    path.write_bytes(path.read_bytes()[:1500])  # the index of an mp4 lies at its end


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no .*a.mp4"),
        (text, "a.mp4 is not a video, or is damaged"),
        (lambda path: path.write_bytes(b""), "a.mp4 is not a video, or is damaged"),
        (sound_alone, "a.mp4 holds no video"),
        (truncated, "a.mp4 is not a video, or is damaged"),
        (lambda path: path.mkdir(), "a.mp4 holds no images"),
    ],
)
def test_impossible_inputs(tmp_path, make, message):
    make(tmp_path / "a.mp4")
    with pytest.raises(InputError, match=message):
        upscale(tmp_path / "a.mp4", tmp_path / "b.mkv")
    assert [path.name for path in tmp_path.iterdir()] in ([], ["a.mp4"])


def test_an_existing_output_is_not_overwritten(video, tmp_path):
    output = tmp_path / "b.mkv"
    output.write_text("precious")
    with pytest.raises(InputError, match="b.mkv exists already: .* --overwrite"):
        upscale(video, output)
    assert output.read_text() == "precious"
    with pytest.raises(InputError, match="is the input itself"):
        upscale(video, video, overwrite=True)
    (tmp_path / "c").write_text("precious")
    with pytest.raises(InputError, match="is a file: the name of a video needs a suffix"):
        upscale(video, tmp_path / "c", overwrite=True)
    upscale(video, output, videos.Repeat(), overwrite=True)
    assert len(videos.read(output).frames) == 12


def test_a_folder_that_is_not_writable(video, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="the folder .* is not writable"):
        upscale(video, tmp_path / "b.mkv")


def test_without_pyav_the_extra_is_named(video, tmp_path, monkeypatch):
    found = builtins.__import__

    def without(name, *rest, **kwargs):
        if name == "av":
            raise ImportError
        return found(name, *rest, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'jaxvsr\[video\]'"):
        upscale(video, tmp_path / "b.mp4")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1:30", 90), ("0:01:30.5", Fraction(181, 2)), ("", None)]
)
def test_parse_time(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "rate"),
    [("", None), ("25", 25), ("23.976", Fraction("23.976")), ("30000/1001", Fraction(30000, 1001))],
)
def test_parse_rate(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    ["0", "0.0", "1/0", "0/1", "-25", "1001", "1e9", "9" * 5000, "nan", "inf", "25fps", " 25"],
)
def test_rates_that_no_video_has(text):
    with pytest.raises(ValueError, match="--fps must be frames per second, above 0 and up to 1000"):
        parse_rate(text)


def test_parse_tile_and_option():
    assert parse_tile("320x180") == (180, 320) and parse_tile("") == (0, 0)
    assert parse_option("x=a=b") == ("x", "a=b")


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_time, "1m", "a time must be like 90, 1:30 or 0:01:30.5; got '1m'"),
        (parse_tile, "320", "--tile must be WIDTHxHEIGHT, for example 320x180; got '320'"),
        (parse_tile, "0x8", "--tile must be WIDTHxHEIGHT"),
        (parse_option, "slow", "--codec_options must be name=value, .*; got 'slow'"),
    ],
)
def test_parse_errors(parse, text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_overwrite_replaces_only_what_an_upscaling_may_have_written(tmp_path):
    out = tmp_path / "out"
    source = out / "in"
    videos.write_png(source / "0.png", videos.blocks(1)[0])
    videos.write_png(tmp_path / "other" / "0.png", videos.blocks(1)[0])
    with pytest.raises(InputError, match="the input .*out/in is inside .*out, which --overwrite"):
        upscale(source, out, overwrite=True)
    with pytest.raises(InputError, match=r"out holds more than images \(in\)"):
        upscale(tmp_path / "other", out, overwrite=True)
    assert (source / "0.png").exists()
