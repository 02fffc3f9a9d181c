"""Video files as frames."""

import builtins

import numpy as np
import pytest
import trees

from jaxvsr.data import video
from jaxvsr.errors import InputError

pytest.importorskip("av")


def test_frames_come_back(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), np.uint8)
    trees.write_video(tmp_path / "a.mkv", frames)
    found = video.VideoFrames(tmp_path / "a.mkv")
    assert found.check() == (5, 32, 48)
    np.testing.assert_array_equal(np.stack(list(found)), frames)
    np.testing.assert_array_equal(next(iter(found)), frames[0])


def test_what_is_written_comes_back_nearly(tmp_path):
    ramp = np.linspace(40, 200, 49, dtype=np.uint8)[None, :, None] + np.zeros((33, 1, 3), np.uint8)
    frames = [ramp + np.uint8(10 * t) for t in range(5)]
    path = video.write_video(tmp_path / "new" / "a.mp4", frames, rate=5)
    found = video.VideoFrames(path)
    assert found.check() == (5, 32, 48)
    for frame, back in zip(frames, found, strict=True):
        np.testing.assert_allclose(back.astype(int), frame[:32, :48], atol=4)


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(bytes(1000))
    with pytest.raises(ValueError, match="a.mp4 is not a video, or damaged"):
        video.VideoFrames(tmp_path / "a.mp4").check()
    with pytest.raises(FileNotFoundError, match="b.mp4"):
        video.VideoFrames(tmp_path / "b.mp4").check()


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    found = builtins.__import__

    def without(name, *rest, **kwargs):
        if name == "av":
            raise ImportError
        return found(name, *rest, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'jaxvsr\[video\]'"):
        video.VideoFrames(tmp_path / "a.mp4").check()
