"""Segments: several hosts, a full disk, a foreign folder."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import videos
from videos import LOSSLESS, upscale

from jaxvsr.errors import InputError
from jaxvsr.upscaling import segments
from jaxvsr.video.images import Picture


def test_each_host_resumes_its_own_segments(tmp_path):
    """The first host owns segments 0 and 1, the second the others; each has completed one."""
    frames = [(i, Picture(np.zeros((4, 4, 3), np.uint8)), None) for i in range(4)]

    def work(*place):
        return segments.SegmentFolder(tmp_path / "out", {"asked": 1}, *place)

    def open_segment(_):
        return segments.ImageWriter(lambda i: work().whole / f"{i:08d}.png", 95, 0)

    first, second = (range(2), 0), (range(2, 2**31), 6)
    work().folder.mkdir()
    work().create()
    for place in (first, second):
        work(*place).write(frames[:3], open_segment, 3)
    assert sorted(path.stem for path in work().whole.glob("*.png")) == [
        f"{i:08d}" for i in (0, 1, 2, 6, 7, 8)
    ]
    for place, count in ((first, 1), (second, 2)):
        again = work(*place)
        again.resume()
        assert again.done == place[1] + 3
        again.write(frames[: 3 * count - 2], open_segment, 3)
    whole = work()
    whole.resume()
    assert whole.counts == [3, 1, 3, 3, 1]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    pytest.importorskip("av")
    return videos.write(tmp_path_factory.mktemp("videos") / "a.mkv", videos.blocks(12))


def test_after_a_full_disk_a_run_can_be_resumed(video, tmp_path, monkeypatch):
    def full(self, pixels, number):
        if number == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        add(self, pixels, number)

    add = segments.PacketWriter.add
    output, how = tmp_path / "b.mkv", {"encoder": LOSSLESS, "segment": 4}
    with monkeypatch.context() as patch:
        patch.setattr(segments.PacketWriter, "add", full)
        with pytest.raises(
            InputError,
            match="b.mkv.parts cannot be written: its disk is full: .* 4 finished .* --resume",
        ):
            upscale(video, output, videos.Repeat(), **how)
    assert not output.exists()
    upscale(video, output, videos.Repeat(), **how, resume=True)
    assert len(videos.read(output).frames) == 12


@pytest.mark.parametrize("failing", ["mux", "try_encoding"])
def test_a_disk_that_fills_up_while_joining_does_not_blame_the_input(
    video, tmp_path, monkeypatch, failing
):
    import av

    def full(*args):
        raise av.error.OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "whole.mkv")

    output, how = tmp_path / "b.mkv", {"encoder": LOSSLESS, "segment": 4}
    with monkeypatch.context() as patch:
        name = "Encoder" if failing == "try_encoding" else "mux"
        where = "jaxvsr.video.writing" if failing == "try_encoding" else "jaxvsr.upscaling.pipeline"
        patch.setattr(f"{where}.{name}", full)
        with pytest.raises(InputError, match="b.mkv.parts cannot be written: its disk is full"):
            upscale(video, output, videos.Repeat(), **how)
    assert not output.exists()
    upscale(video, output, videos.Repeat(), **how, resume=True)
    assert len(videos.read(output).frames) == 12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits are of POSIX")
def test_a_write_that_fails_ends_the_process_in_order(video, tmp_path):
    """Threads that compute are joined; before, the process was aborted (code 134)."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    source = videos.write(tmp_path / "noise.mkv", noise)
    limited = ["sh", "-c", 'ulimit -f 40; exec "$@"', "sh"]  # blocks of 512 bytes
    words = [sys.executable, "-m", "jaxvsr", "upscale", source, tmp_path / "b.mkv", "--lossless"]
    env = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run([*limited, *words], capture_output=True, text=True, env=env)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"error: {tmp_path}/b.mkv.parts cannot be written: File too large" in done.stderr
    assert not list(tmp_path.glob("b.mkv*"))


def test_a_foreign_folder_is_left_alone(video, tmp_path):
    parts = tmp_path / "b.mkv.parts"
    parts.mkdir()
    for name in ("letter.txt", "settings.json"):
        (parts / name).write_text("mine")
        with pytest.raises(InputError, match="b.mkv.parts is in the way"):
            upscale(video, tmp_path / "b.mkv", overwrite=True)
    assert len(list(parts.iterdir())) == 2
