"""Videos and folders of images as frames."""

from fractions import Fraction

import numpy as np
import pytest
import videos

from jaxvsr.errors import InputError
from jaxvsr.video.images import write_image
from jaxvsr.video.reading import ImageFolder, TimeRange, VideoFile, open_source

av = pytest.importorskip("av")
FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mkv": "matroska"}


def pixels(source, part=None):
    return np.stack([frame.pixels for frame in source.frames(part or TimeRange(), print)])


def test_a_video_comes_back(tmp_path):
    frames = videos.blocks(5)
    source = open_source(videos.write(tmp_path / "a.mkv", frames))
    assert source.info().size == (48, 64) and not source.info().deep
    assert source.count_packets() == 5
    np.testing.assert_array_equal(pixels(source), frames)
    np.testing.assert_array_equal(
        pixels(source, TimeRange(Fraction(2, 25), Fraction(4, 25))), frames[2:4]
    )


def test_a_colon_in_a_name_is_no_protocol(tmp_path):
    frames = videos.blocks(2)
    path = videos.write(tmp_path / "a.mkv", frames).rename(tmp_path / "part 1: a.mkv")
    np.testing.assert_array_equal(pixels(VideoFile(path)), frames)


def with_cover(path):
    """A song: sound, and a picture that is cover art."""
    with av.open(path, "w") as container:
        audio = container.add_stream("aac", rate=44100, layout="mono")
        cover = container.add_stream("mjpeg")
        cover.height, cover.width, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
        silence.sample_rate = 44100
        picture = av.VideoFrame.from_ndarray(videos.blocks(1, 32, 32)[0], format="rgb24")
        container.mux([*cover.encode(picture), *cover.encode()])
        container.mux([*audio.encode(silence), *audio.encode()])
    return path


def test_cover_art_is_not_a_video(tmp_path):
    path = with_cover(tmp_path / "a.mp4")
    with av.open(path) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(InputError, match=r"^\S*a\.mp4 holds no video"):
        VideoFile(path).info()


@pytest.mark.parametrize("name", ["a.mp4", "a.m4v", "a.mkv"])
@pytest.mark.parametrize("first", [False, True])
def test_cover_art_is_not_a_frame(tmp_path, name, first):
    frames, source = videos.blocks(5), tmp_path / name
    write_image(tmp_path / "c.jpg", videos.blocks(1, 96, 96)[0], 90)
    plain = videos.write(tmp_path / "plain.mkv", frames, codec="libx264", pix_fmt="yuv420p")
    with av.open(plain) as old, av.open(source, "w", format=FORMATS[source.suffix]) as new:
        streams = {}
        for kind in ("cover", "video") if first else ("video", "cover"):
            if kind == "video":
                streams[kind] = new.add_stream_from_template(old.streams.video[0])
            elif name != "a.mkv":
                streams[kind] = cover = new.add_stream("mjpeg")
                cover.height, cover.width, cover.pix_fmt = 96, 96, "yuvj420p"
                cover.disposition = av.stream.Disposition.attached_pic
            else:
                new.add_attachment("cover.jpg", "image/jpeg", (tmp_path / "c.jpg").read_bytes())
        if "cover" in streams:
            picture = av.VideoFrame.from_ndarray(videos.blocks(1, 96, 96)[0], format="rgb24")
            new.mux([*cover.encode(picture), *cover.encode()])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = streams["video"]
                new.mux(packet)
    with av.open(source) as container:
        assert len(container.streams.video) == 2
    assert pixels(VideoFile(source)).shape == frames.shape
    assert VideoFile(source).count_packets() == 5
    after = videos.upscale(source, tmp_path / f"b{source.suffix}")
    assert after.frames.shape == (5, 96, 128, 3)


def test_a_folder_is_in_natural_order_and_counts_hidden_files(tmp_path):
    frames = videos.blocks(12)
    for i, frame in enumerate(frames):
        write_image(tmp_path / f"{i}.png", frame)
        (tmp_path / f"._{i}.png").write_bytes(b"metadata of macOS")
    said = []
    folder = open_source(tmp_path)
    found = [frame.pixels for frame in folder.frames(TimeRange(), said.append)]
    np.testing.assert_array_equal(np.stack(found), frames)
    assert folder.info().length == 12
    assert said == [f"{tmp_path}: 12 hidden files ignored"]


def test_a_folder_has_the_bit_depth_of_its_first_image(tmp_path):
    deep = videos.blocks(2).astype(np.uint16) * 257
    for first in ("deep", "flat"):
        folder = tmp_path / first
        write_image(folder / "0.png", deep[0] if first == "deep" else videos.blocks(1)[0])
        write_image(folder / "1.png", videos.blocks(2)[1] if first == "deep" else deep[1])
        assert ImageFolder(folder).info().deep == (first == "deep")
        expected = deep if first == "deep" else videos.blocks(2)
        np.testing.assert_array_equal(pixels(ImageFolder(folder)), expected)


def test_errors_of_sources(tmp_path):
    with pytest.raises(InputError, match="there is no"):
        open_source(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="holds no images"):
        open_source(tmp_path).info()
    (tmp_path / "a.mp4").write_bytes(bytes(1000))
    with pytest.raises(InputError, match=r"a\.mp4 is not a video, or is damaged"):
        open_source(tmp_path / "a.mp4").info()
    with pytest.raises(InputError, match="--fps is for folders"):
        open_source(tmp_path / "a.mp4", 10)
