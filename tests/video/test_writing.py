"""Videos from frames."""

import pathlib
from fractions import Fraction

import numpy as np
import pytest
import videos
from videos import LOSSLESS, upscale

from jaxvsr.errors import InputError
from jaxvsr.video.encoding import EncoderOptions
from jaxvsr.video.reading import VideoFile
from jaxvsr.video.writing import reorder_delay, write_video

pytest.importorskip("av")


def test_a_lossless_video_comes_back(tmp_path):
    frames = videos.blocks(5)
    path = write_video(tmp_path / "new" / "a.mkv", iter(frames), 10, LOSSLESS)
    found = videos.read(path)
    np.testing.assert_array_equal(found.frames, frames)
    assert found.times == pytest.approx([i / 10 for i in range(5)])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_a_video_of_odd_size_is_cropped_and_nearly_comes_back(tmp_path, suffix):
    ramp = np.linspace(40, 200, 49, dtype=np.uint8)[None, :, None] + np.zeros((33, 1, 3), np.uint8)
    frames = [ramp + np.uint8(10 * t) for t in range(5)]
    found = videos.read(write_video(tmp_path / f"a{suffix}", frames, Fraction(30000, 1001)))
    assert found.frames.shape == (5, 32, 48, 3)
    expected = np.stack(frames)[:, :32, :48]
    np.testing.assert_allclose(found.frames.astype(int), expected, atol=4)
    # The matrix is tagged, so that players need not guess it.
    assert found.context["colorspace"] == 1 and found.context["color_range"] == 1


@pytest.mark.parametrize("suffix", [".MKV", ".WebM", ".MP4", ".AVI", ".ogv", ".mxf", ".mpg", ".ts"])
def test_containers_by_their_suffix(tmp_path, suffix):
    frames = videos.blocks(25)
    found = videos.read(write_video(tmp_path / f"a{suffix}", frames, 25))
    assert found.frames.shape == frames.shape
    assert np.abs(found.frames.astype(int) - frames).mean() < 8  # at edges of color
    steps = np.diff(found.times)
    assert steps == pytest.approx(np.full(24, 0.04), abs=2e-3)


@pytest.mark.parametrize("name", ["a:b.mkv", "file:a.mkv", "a%03d.mp4", "-a.mkv", "a b#?&.mkv"])
def test_names_are_taken_as_they_are(tmp_path, name, monkeypatch):
    frames = videos.blocks(2)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, pathlib.Path(f"x{name}"), pathlib.Path("Movie: Title") / name):
        write_video(path, frames, 25, LOSSLESS)
        assert VideoFile(path).info().size == (48, 64)
        copied = upscale(path, path.with_name(f"new {path.name}"), encoder=LOSSLESS)
        np.testing.assert_array_equal(copied.frames, videos.larger(frames))


def test_16_bits_make_a_deep_video(tmp_path):
    frames = videos.blocks(3).astype(np.uint16) * 257
    found = videos.read(write_video(tmp_path / "a.mkv", frames, 25, LOSSLESS))
    assert found.context["pix_fmt"] == "gbrp10le"
    assert np.abs(found.frames.astype(int) - frames).max() <= 2**6


def test_errors(tmp_path):
    with pytest.raises(InputError, match="there are no frames to write"):
        write_video(tmp_path / "a.mp4", [], 25)
    with pytest.raises(InputError, match="unknown container"):
        write_video(tmp_path / "a.xyz", videos.blocks(1), 25)
    with pytest.raises(InputError, match="no such encoder"):
        write_video(tmp_path / "a.mp4", videos.blocks(1), 25, EncoderOptions(codec="x"))
    assert not list(tmp_path.iterdir())


def test_reorder_delay():
    assert reorder_delay([0, 1, 2]) == 0
    assert reorder_delay([0, 3, 1, 2]) == 1
