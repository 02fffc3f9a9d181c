"""Damage is said in one line, and healthy files are not accused."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import videos

from jaxvsr.errors import InputError
from jaxvsr.video.integrity import Damage, find_damage
from jaxvsr.video.reading import TimeRange, VideoFile

av = pytest.importorskip("av")
TICK = {"unit": Fraction(1, 25)}
H264 = {"codec": "libx264", "pix_fmt": "yuv420p"}
KINDS = {
    "a.mp4": H264 | {"sound": True},
    "a.mkv": H264 | {"sound": True},
    "ffv1.mkv": {},
    "a.avi": {"codec": "mpeg4", "pix_fmt": "yuv420p", "sound": "libmp3lame"} | TICK,
    "a.gif": {"codec": "gif", "pix_fmt": "rgb8"} | TICK,
}


def texture(length=30, height=48, width=64):
    """Frames of a moving texture, whose packets are longer than the headers around them."""
    rng = np.random.default_rng(0)
    field = rng.integers(0, 255, (height // 4 + 20, width // 4 + 20, 3), np.uint8)
    field = field.repeat(4, 0).repeat(4, 1)
    return np.stack([field[t : t + height, 2 * t : 2 * t + width] for t in range(length)])


def read(path):
    said = []
    frames = [frame.pixels for frame in VideoFile(path).frames(TimeRange(), said.append)]
    return frames, said


def damaged(data, how, seed):
    """The data with a flipped bit, some zeros, or without its end."""
    rng = np.random.default_rng(seed)
    data, at = bytearray(data), int(rng.integers(len(data) // 5, len(data) * 19 // 20))
    if how == "flip":
        data[at] ^= 1 << int(rng.integers(8))
    elif how == "zero":
        data[at : at + 300] = bytes(len(data[at : at + 300]))
    else:
        del data[at:]
    return bytes(data)


@pytest.mark.parametrize("how", ["flip", "zero", "truncate"])
@pytest.mark.parametrize("name", KINDS)
def test_damage_is_said_once(tmp_path, name, how):
    if how == "flip" and not name.endswith(".mkv"):
        pytest.skip("most flipped bits decode to other pixels, without a trace")
    path = videos.write(tmp_path / name, texture(), **KINDS[name])
    whole, said = read(path)
    assert len(whole) == 30 and not said
    data, wrong, silent = path.read_bytes(), 0, []
    for seed in range(12):
        path.write_bytes(damaged(data, how, seed))
        try:
            frames, said = read(path)
        except InputError:  # MP4s without their end
            continue
        assert len(said) <= 1
        assert not said or said[0].startswith(f"warning: {path} is damaged: ")
        if len(frames) < 30 or not all(map(np.array_equal, frames, whole)):
            wrong += 1
            silent += [seed] * (not said)
    assert wrong >= (3 if name != "a.mp4" or how == "zero" else 0)
    # The decoders of the others do not notice all that is overwritten.
    assert len(silent) <= (wrong // 6 if how == "zero" and not name.endswith(".mkv") else 0)


def test_the_line_says_what_was_lost(tmp_path):
    path = videos.write(tmp_path / "a.mkv", texture())
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    frames, (line,) = read(path)
    expected = f"the file is truncated; {len(frames)} of about 30 frames were read"
    assert line == f"warning: {path} is damaged: {expected}" and 10 < len(frames) < 30
    # Not where only the beginning is read.
    said = []
    assert list(VideoFile(path).frames(TimeRange(end=Fraction(1, 5)), said.append)) and not said


@pytest.mark.parametrize(
    ("name", "settings", "options"),
    [
        ("b.mp4", H264, {"movflags": "frag_keyframe+empty_moov"}),
        ("b.mp4", H264, {"movflags": "faststart"}),
        ("b.mkv", H264, {"live": "1"}),
        ("b.mkv", H264, {"cues_to_front": "1"}),
        ("b.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}, {}),
        ("b.avi", {"codec": "libx264", "pix_fmt": "yuv420p"} | TICK, {}),
        ("b.avi", {"codec": "mpeg4", "pix_fmt": "yuv420p"} | TICK, {}),
        ("b.webm", {"codec": "libvpx-vp9", "pix_fmt": "yuv420p"}, {}),
        ("b.flv", H264, {}),
        ("b.ts", H264, {}),
        ("b.mpg", {"codec": "mpeg2video", "pix_fmt": "yuv420p", "max_b_frames": 2} | TICK, {}),
        ("b.h264", H264, {}),
        ("b.gif", {"codec": "gif", "pix_fmt": "rgb8"} | TICK, {}),
        ("b.y4m", {"codec": "wrapped_avframe", "pix_fmt": "yuv420p"} | TICK, {}),
    ],
)
def test_healthy_files_are_not_accused(tmp_path, name, settings, options):
    path = videos.write(tmp_path / name, texture(), container_options=options, **settings)
    frames, said = read(path)
    assert len(frames) == 30 and not said


def test_longer_sound_edit_lists_and_gaps_are_healthy(tmp_path):
    """Parts of a file without re-encoding: frames before the cut stay, but are not displayed."""
    source = videos.write(
        tmp_path / "a.mp4", texture(), sound=True, sound_after=1, gop_size=12, **H264
    )
    for suffix in (".mp4", ".mkv", ".mov"):
        with av.open(source) as old, av.open(tmp_path / f"b{suffix}", "w") as new:
            streams = [new.add_stream_from_template(stream) for stream in old.streams]
            for packet in old.demux():
                if packet.size:
                    shift = round(Fraction(7, 10) / packet.time_base)
                    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                    packet.stream = streams[packet.stream.index]
                    if packet.pts >= 0 or packet.stream.type == "video":
                        new.mux(packet)
        frames, said = read(tmp_path / f"b{suffix}")
        assert len(frames) >= 12 and not said


def test_dropped_frames_and_trailing_bytes_are_healthy(tmp_path):
    """AVI stores a gap as empty packets; some programs append data of their own."""
    times = [3 * i / 25 for i in range(30)]
    path = videos.write(
        tmp_path / "a.avi", texture(), times=times, **KINDS["a.avi"] | {"sound": ""}
    )
    assert len(read(path)[0]) == 30 and not read(path)[1]
    for name in ("a.mp4", "a.gif", "a.avi"):
        path = videos.write(tmp_path / name, texture(), **KINDS[name])
        path.write_bytes(path.read_bytes() + b"some notes")
        assert len(read(path)[0]) == 30 and not read(path)[1]


def test_damage_at_a_jump_of_the_clock_is_none():
    joined = Damage(flagged={24}, jumps={26})
    assert joined.describe(50, 50) == ""
    assert dataclasses.replace(joined, jumps=set()).describe(50, 60) == (
        "1 packet could not be decoded; 50 of about 60 frames were read"
    )
    assert Damage(frames=2, unread=3).describe(50, 0) == (
        "3 packets could not be decoded; 2 frames decoded with errors"
    )


def test_other_formats_have_no_checks(tmp_path):
    (tmp_path / "a.ts").write_bytes(b"anything")
    assert find_damage(tmp_path / "a.ts", "mpegts") == ""
    (tmp_path / "a.mkv").write_bytes(bytes(20))
    assert find_damage(tmp_path / "a.mkv", "matroska,webm") != ""
