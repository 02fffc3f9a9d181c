"""What cannot be done is said in a line, before any long work, and nothing is left behind."""

import builtins
import errno
import os
from fractions import Fraction

import numpy as np
import pytest
import videos

from jaxvsr import upscale as command
from jaxvsr.errors import InputError
from jaxvsr.upscaling import pipeline, segments
from jaxvsr.video import reader
from jaxvsr.video.encoder import Wish
from jaxvsr.video.reader import Span

pytest.importorskip("av")


class Never(videos.Repeat):
    """A network that must not be asked."""

    def __call__(self, lq, train=False):
        raise AssertionError


def upscale(source, output, model=None, **request):
    pipeline.run(source, output, model or Never(), {}, pipeline.Request(**request), {})


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "a.mp4"
    frames = videos.blocks(12)
    return videos.write(path, frames, codec="libx264", pix_fmt="yuv420p", sound=True)


@pytest.mark.parametrize(
    ("output", "request_", "message"),
    [
        ("b.mp4", {"wish": Wish(codec="libx256")}, "--codec=libx256: .* no such encoder"),
        ("b.mp4", {"wish": Wish(codec="aac")}, "--codec=aac"),
        ("b.mp4", {"wish": Wish(codec="huffyuv")}, "huffyuv of 128x96 .* in .mp4 does not work"),
        ("b.webm", {}, ".webm cannot hold the audio .*aac.*: name an output .mkv, or .* --copy"),
        ("b.xyz", {}, "there is no container .xyz"),
        ("b.mp4", {"wish": Wish(codec="mpeg4", crf=20)}, "--crf is for libx264, .*mpeg4"),
        ("b.mp4", {"wish": Wish(codec="mpeg4", lossless=True)}, "mpeg4 is not lossless"),
        ("b.mp4", {"wish": Wish(pixel_format="bgr24")}, "--pix_fmt=bgr24: libx264 takes yuv420p"),
        ("b.mp4", {"wish": Wish(pixel_format="yuv9")}, "--pix_fmt=yuv9: there is no such"),
        ("b.mp4", {"wish": Wish(options=(("presset", "slow"),))}, "knows no option presset"),
        ("no/b.mp4", {}, "there is no folder .*/no to write into"),
        ("b.mp4", {"compare": "both"}, "--compare=both is none of side, split"),
        ("b.mp4", {"copy": ["sound", "smell"]}, "--copy=smell: there are sound, subtitles"),
        ("b.mp4", {"span": Span(Fraction(2), Fraction(1))}, "--end must be later"),
        ("b.mp4", {"span": Span(Fraction(9))}, "no frames to restore"),
        ("b", {"images": "gif"}, "--images=gif is neither png nor jpg"),
        ("b.mp4", {"rate": Fraction(5)}, "--fps is for folders"),
        ("b.mp4", {"preview": 12}, "--preview=12: there is no such frame"),
    ],
)
def test_impossible_requests(video, tmp_path, output, request_, message):
    model = videos.Repeat() if "preview" in request_ else None
    with pytest.raises(InputError, match=message):
        upscale(video, tmp_path / output, model, **request_)
    assert not list(tmp_path.iterdir())


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


def cut_short(path):
    videos.write(path, videos.blocks(5), codec="libx264", pix_fmt="yuv420p")
    path.write_bytes(path.read_bytes()[:1500])  # the index of an mp4 lies at its end


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no .*a.mp4"),
        (text, "a.mp4 is not a video, or damaged"),
        (lambda path: path.write_bytes(b""), "a.mp4 is not a video, or damaged"),
        (sound_alone, "a.mp4 holds no video"),
        (cut_short, "a.mp4 is not a video, or damaged"),
        (lambda path: path.mkdir(), "a.mp4 holds no images"),
    ],
)
def test_impossible_inputs(tmp_path, make, message):
    make(tmp_path / "a.mp4")
    with pytest.raises(InputError, match=message):
        upscale(tmp_path / "a.mp4", tmp_path / "b.mkv")
    assert [path.name for path in tmp_path.iterdir()] in ([], ["a.mp4"])


def test_of_a_truncated_file_what_can_be_read_is_restored(tmp_path, capsys):
    frames = videos.blocks(40)
    source = videos.write(tmp_path / "a.mkv", frames)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    upscale(source, tmp_path / "b.mkv", videos.Repeat(), wish=Wish(lossless=True))
    found = videos.read(tmp_path / "b.mkv").frames
    assert 10 < len(found) < 40
    np.testing.assert_array_equal(found, frames[: len(found)].repeat(2, 1).repeat(2, 2))
    said = capsys.readouterr().out
    assert f"warning: the input says that it has 40 frames, {len(found)} could be read" in said


def test_what_is_there_is_not_overwritten(video, tmp_path):
    output = tmp_path / "b.mkv"
    output.write_text("precious")
    with pytest.raises(InputError, match="b.mkv is there already: .* --overwrite"):
        upscale(video, output)
    assert output.read_text() == "precious"
    with pytest.raises(InputError, match="is the input itself"):
        upscale(video, video, overwrite=True)
    (tmp_path / "c").write_text("precious")
    with pytest.raises(InputError, match="is a file: a video has a suffix"):
        upscale(video, tmp_path / "c", overwrite=True)
    upscale(video, output, videos.Repeat(), overwrite=True)
    assert len(videos.read(output).frames) == 12


def test_a_folder_that_is_not_ours_stays(video, tmp_path):
    (tmp_path / "b.mkv.parts").mkdir()
    with pytest.raises(InputError, match="b.mkv.parts is in the way"):
        upscale(video, tmp_path / "b.mkv", overwrite=True)
    assert (tmp_path / "b.mkv.parts").exists()


def test_frames_of_changing_size(tmp_path):
    folder = tmp_path / "in"
    for i, height in enumerate((48, 48, 32)):
        videos.write_png(folder / f"{i}.png", videos.blocks(1, height)[0])
    with pytest.raises(InputError, match="2.png is 64x32, but the images before are 64x48"):
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
    with pytest.raises(InputError, match="frames are 64x32, before they were 64x48"):
        upscale(both, tmp_path / "b.mkv", videos.Repeat())
    assert not (tmp_path / "b.mkv").exists()


def test_a_full_disk_is_explained_and_the_run_can_go_on(video, tmp_path, monkeypatch):
    def full(self, pixels, number):
        if number == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        add(self, pixels, number)

    add = segments.PacketsPart.add
    output, how = tmp_path / "b.mkv", {"wish": Wish(lossless=True), "segment": 4}
    with monkeypatch.context() as patch:
        patch.setattr(segments.PacketsPart, "add", full)
        with pytest.raises(InputError, match="the disk of .* is full.*--resume"):
            upscale(video, output, videos.Repeat(), **how)
    assert not output.exists()
    upscale(video, output, videos.Repeat(), **how, resume=True)
    assert len(videos.read(output).frames) == 12


def test_a_place_that_cannot_be_written(video, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="the folder .* cannot be written into"):
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
def test_times(text, seconds):
    assert command._seconds(text) == seconds


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (command._seconds, "1m", "'1m' is no time: 90, 1:30"),
        (command._pair, "320", "--tile=320 is no width and height"),
        (command._pair, "0x8", "--tile=0x8 is no width and height"),
        (command._option, "slow", "--codec_options=slow must be name=value"),
    ],
)
def test_wrong_flags(parse, text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_a_video_is_what_is_not_a_cover(video):
    assert reader.Video(video).info().length == 12
    assert command._pair("320x180") == (180, 320)
