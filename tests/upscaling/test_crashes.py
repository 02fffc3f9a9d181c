"""Kills at every file-system step of an upscaling: the output is the old one, the new one, or
the run can be resumed, whatever flags the next run has."""

import contextlib
import hashlib
import itertools
import os
import shutil

import numpy as np
import pytest
import videos
from crashes import Killed, Killer
from videos import LOSSLESS

from jaxvsr.errors import InputError
from jaxvsr.upscaling import pipeline
from jaxvsr.upscaling.pipeline import upscale_file
from jaxvsr.upscaling.request import Request
from jaxvsr.upscaling.segments import SegmentFolder
from jaxvsr.upscaling.stream import Output, Settings
from jaxvsr.video.encoding import EncoderOptions

pytest.importorskip("av")
FRAMES, SIZE = 5, 32
# input, output, whether the network has a state
KINDS = {
    "video": ("in.mkv", "out.mkv", False),
    "video, state": ("in.mkv", "out.mkv", True),
    "images": ("frames", "out", False),
    "images, state": ("in.mkv", "out", True),
    "image": ("frames/0.png", "out.png", False),
}
SEVERAL = [kind for kind in KINDS if kind != "image"]  # kinds with several segments
FLAGS = [{}, {"resume": True}, {"overwrite": True}, {"resume": True, "overwrite": True}]
KILLER = Killer()


class StubStream:
    """Stands for a network, without compiling: repeats pixels; its state counts frames."""

    streams = False

    def __init__(self, model, variables, frames, settings, **_):
        self._frames, self.settings = frames, Settings(chunk=2, tile=(SIZE, SIZE))
        self.like_state = np.zeros(1, np.int32)

    def outputs(self, done=0, state=None, every=0):
        count = 0 if state is None else int(state[0])
        for i, frame in enumerate(self._frames):
            if i < done:
                continue
            count += 1
            sr = frame.pixels.repeat(2, 0).repeat(2, 1)
            if self.streams:
                sr = sr + np.uint8(count)
            kept = every and (i + 1) % every == 0
            yield Output(i, frame, sr, np.full(1, count, np.int32) if kept else None)


class StubStreamWithState(StubStream):
    streams = True


@pytest.fixture
def upscale(tmp_path, monkeypatch):
    """A function of a kind and flags that upscales in a folder."""
    frames = videos.blocks(FRAMES, SIZE, SIZE)
    videos.write(tmp_path / "in.mkv", frames)
    for i, frame in enumerate(frames):
        videos.write_png(tmp_path / "frames" / f"{i}.png", frame)
    mux = pipeline.mux

    def torn_mux(path, *args):  # FFmpeg writes where Python's hooks do not see it
        path.write_bytes(b"half")
        return mux(path, *args)

    monkeypatch.setattr(pipeline, "mux", torn_mux)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # slow, and nothing loses power here

    def run(folder, kind, **flags):
        source, output, streams = KINDS[kind]
        monkeypatch.setattr(pipeline, "Stream", StubStreamWithState if streams else StubStream)
        encoder = LOSSLESS if output.endswith(".mkv") else EncoderOptions()
        request = Request(encoder=encoder, segment=2, **flags)
        upscale_file(tmp_path / source, folder / output, videos.Repeat(), {}, request, {})

    return run


def contents(path):
    """Digest of the decoded video, or the names and bytes of the images; None: missing."""
    if not path.exists():
        return None
    if path.is_dir():
        return sorted((image.name, image.read_bytes()) for image in path.iterdir())
    if path.read_bytes() == b"old":
        return "old"
    return hashlib.sha256(videos.read(path).frames.tobytes()).hexdigest()


def old_output(path):
    """Writes what an earlier command made."""
    if path.suffix:
        path.write_bytes(b"old")
    else:
        path.mkdir()
        for i in range(3):
            (path / f"{i}.png").write_bytes(b"old")


def assert_nothing_is_lost(upscale, tmp_path, kind, had_output, step, all_flags):
    """Kills a run at a step, then starts it again with each of the flags, and then to the end."""
    first, after = tmp_path / "first", tmp_path / "after"
    output = KINDS[kind][1]
    for folder in (first, after):
        shutil.rmtree(folder, ignore_errors=True)
    first.mkdir()
    if had_output:
        old_output(first / output)
    old = contents(first / output)
    with KILLER.watching(first, step), pytest.raises(Killed):
        upscale(first, kind, overwrite=had_output)
    for flags in all_flags:
        shutil.rmtree(after, ignore_errors=True)
        shutil.copytree(first, after)
        where = f"{kind} {'with' if had_output else 'without'} output, {step}, {flags}"
        new = upscale.expected
        assert contents(after / output) in (old, new, None), where
        try:
            upscale(after, kind, **flags)
        except InputError as error:
            assert not flags.get("overwrite"), (where, error)
            assert "--overwrite" in str(error), where
            left = contents(after / output)
            assert left in (old, new) or left is None, where
        else:
            assert contents(after / output) == new, where
            assert [path.name for path in after.iterdir()] == [output], where
            continue
        upscale(after, kind, resume=True, overwrite=True)
        assert contents(after / output) == new, where
        assert [path.name for path in after.iterdir()] == [output], where


def count_steps(upscale, tmp_path, kind, had_output):
    """Number of file-system steps of an upscaling; remembers what it made."""
    folder = tmp_path / "whole"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if had_output:
        old_output(folder / KINDS[kind][1])
    with KILLER.watching(folder) as counted:
        upscale(folder, kind, overwrite=had_output)
    upscale.expected = contents(folder / KINDS[kind][1])
    assert [path.name for path in folder.iterdir()] == [KINDS[kind][1]]
    return len(counted.steps)


@pytest.mark.parametrize("had_output", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_any_step(upscale, tmp_path, kind, had_output):
    """At every step one of the flags in turn; `test_..._with_any_flags` is the full grid."""
    steps = count_steps(upscale, tmp_path, kind, had_output)
    assert steps > (20 if kind in SEVERAL else 10)
    flags = itertools.cycle(FLAGS)
    for step in range(steps):
        assert_nothing_is_lost(upscale, tmp_path, kind, had_output, step, [next(flags)])


@pytest.mark.slow
@pytest.mark.parametrize("had_output", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_any_step_with_any_flags(upscale, tmp_path, kind, had_output):
    for step in range(count_steps(upscale, tmp_path, kind, had_output)):
        assert_nothing_is_lost(upscale, tmp_path, kind, had_output, step, FLAGS)


@pytest.mark.parametrize("kind", KINDS)
def test_two_kills(upscale, tmp_path, kind):
    """The second one while the run is resumed."""
    steps, folder = count_steps(upscale, tmp_path, kind, True), tmp_path / "twice"
    output = folder / KINDS[kind][1]
    for first in range(0, steps, 6):
        for second in (first // 2, first, (first * 7 + 3) % steps):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            old_output(output)
            for step, flags in ((first, FLAGS[2]), (second, FLAGS[3])):
                with KILLER.watching(folder, step), contextlib.suppress(Killed):
                    upscale(folder, kind, **flags)
            upscale(folder, kind, resume=True, overwrite=True)
            assert contents(output) == upscale.expected, (first, second)
            assert [path.name for path in folder.iterdir()] == [output.name], (first, second)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def delete(path):
    path.unlink()


@pytest.mark.parametrize("kind", SEVERAL)
def test_damaged_segments_are_computed_again(upscale, tmp_path, kind, capsys):
    """Each file of an interrupted run is damaged in each way."""
    steps = count_steps(upscale, tmp_path, kind, False)
    first, after = tmp_path / "first", tmp_path / "after"
    first.mkdir()
    output = KINDS[kind][1]
    with KILLER.watching(first, steps * 2 // 3), pytest.raises(Killed):
        upscale(first, kind)
    parts = first / f"{output}.parts"
    files = [path.relative_to(first) for path in parts.rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".json"]) >= 2  # a complete segment
    for path, damage in itertools.product(files, (truncate, flip, delete)):
        shutil.rmtree(after, ignore_errors=True)
        shutil.copytree(first, after)
        if not (after / path).stat().st_size:
            continue
        damage(after / path)
        capsys.readouterr()
        if path.name == "settings.json":
            if damage is not delete:
                with pytest.raises(InputError, match="settings.json is damaged: start anew with"):
                    upscale(after, kind, resume=True)
            upscale(after, kind, overwrite=True)
        else:
            upscale(after, kind, resume=True)
        assert contents(after / output) == upscale.expected, (path, damage)
        said = capsys.readouterr().out
        if path.name == "segment_000000.packets" or path.name == "00000000.png":
            verb = "missing" if damage is delete else "damaged"
            assert f"{after / path} is {verb}: computing again from frame 0" in said


def test_a_second_process_is_refused(upscale, tmp_path):
    """Whatever its flags: it would mix its files with those of the first."""
    folder = tmp_path / "both"
    folder.mkdir()
    for output, kind in (("out.mkv", "video"), ("out", "images")):
        with SegmentFolder(folder / output, {}).held():
            for flags in FLAGS:
                with pytest.raises(InputError, match=rf"\({os.getpid()} on .*\) is writing .*/out"):
                    upscale(folder, kind, **flags)
        assert not list(folder.iterdir())
        upscale(folder, kind)
        assert [path.name for path in folder.iterdir()] == [output]
        shutil.rmtree(folder)
        folder.mkdir()
