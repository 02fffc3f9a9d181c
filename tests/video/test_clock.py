"""Times that begin late, wrap around or begin anew, in what is read and in the output."""

import itertools
import types
from fractions import Fraction

import numpy as np
import pytest
import videos
from videos import LOSSLESS, upscale

from jaxvsr.video.clock import Clock
from jaxvsr.video.reading import TimeRange, VideoFile

pytest.importorskip("av")
WRAP = 2**33 / 90000  # seconds after which the clocks of transport and program streams wrap around
RECORDINGS = {
    ".ts": {"codec": "libx264", "pix_fmt": "yuv420p", "sound": True, "max_b_frames": 0},
    ".m2ts": {"codec": "libx264", "pix_fmt": "yuv420p", "sound": "ac3", "max_b_frames": 2},
    ".mpg": {
        "codec": "mpeg2video",
        "pix_fmt": "yuv420p",
        "sound": "mp2",
        "unit": Fraction(1, 25),
        "max_b_frames": 2,
    },
}


def record(path, length=25, start=0):
    return videos.write(path, videos.blocks(length), start=start, **RECORDINGS[path.suffix])


def join(path, *parts):
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("suffix", RECORDINGS)
@pytest.mark.parametrize("start", [20001, int(WRAP) - 1, int(WRAP) + 1])
def test_a_recording_starts_at_zero(tmp_path, suffix, start):
    source = record(tmp_path / f"a{suffix}", 60, start)
    after = upscale(source, tmp_path / "b.mkv", videos.Repeat())
    begin = after.times[0]
    assert 0 <= begin < 0.03  # the sound starts a little earlier
    assert after.times == pytest.approx([begin + i / 25 for i in range(60)], abs=2e-3)
    assert after.sound[0][0] == pytest.approx(0, abs=2e-3) and 2.3 < after.sound[-1][0] < 2.5
    part = TimeRange(Fraction(1), Fraction(3, 2))
    found = [frame.time / 90000 for frame in VideoFile(source).frames(part, print)]
    assert found == pytest.approx([begin + 1 + i / 25 for i in range(13)], abs=2e-3)


def test_a_late_start_in_other_containers(tmp_path):
    source = videos.write(tmp_path / "a.mkv", videos.blocks(5), start=20001, sound=True)
    for suffix in (".mkv", ".mp4", ".avi"):
        after = upscale(source, tmp_path / f"b{suffix}", encoder=LOSSLESS)
        assert after.times == pytest.approx([i / 25 for i in range(5)], abs=0.04)
        assert 0 <= after.sound[0][0] < 0.03


class Packet:
    """What a clock needs of PyAV's packets; times in milliseconds."""

    time_base = Fraction(1, 1000)

    def __init__(self, stream, dts, duration=40):
        self.stream, self.dts, self.pts, self.duration = stream, dts, dts, duration


class Recording:
    """What a clock needs of a container: a video (0) and sound (1), which start at 5 s."""

    def __init__(self, restarts):
        self.format = types.SimpleNamespace(flags=0x200 if restarts else 0)  # AVFMT_TS_DISCONT
        fields = {"start_time": 5000, "time_base": Fraction(1, 1000), "average_rate": 25}
        self.video, sound = (types.SimpleNamespace(index=i, **fields) for i in (0, 1))
        self.streams = types.SimpleNamespace(audio=[sound])
        self.clock = Clock(self, self.video)

    def moved(self, stream, *times):
        found = []
        for time in times:
            packet = Packet(types.SimpleNamespace(index=stream), time)
            found.append(packet.dts if self.clock.move(packet) else None)
        return found


def test_sound_follows_the_parts_of_the_video():
    tape = Recording(restarts=True)
    assert tape.moved(0, 5000, 5040) == [0, 40] and tape.moved(1, 5000, 5040) == [0, 40]
    assert tape.moved(0, 900, 940) == [80, 120] and tape.clock.part == 1
    # The last packet of the first part comes late; then the second begins.
    assert tape.moved(1, 5080, 920, 960) == [80, 100, 140]
    # A short gap is one; a long one is closed.
    assert tape.moved(0, 1980, 90_000) == [1160, 1200]
    assert tape.moved(1, 90_010) == [1210]


def test_a_damaged_time_does_not_move_the_others():
    tape = Recording(restarts=True)
    assert tape.moved(0, 5000, 5040) == [0, 40]
    assert tape.moved(1, 5000, 60_000_000, 5040) == [0, None, 40]
    assert tape.moved(0, 60_000_000, 5120, 5160) == [80, 120, 160]
    assert tape.moved(1, 5080) == [80]


def test_other_formats_keep_their_gaps():
    tape = Recording(restarts=False)
    assert tape.moved(0, 5000, 60_000, 50_000) == [0, 55_000, 45_000]
    assert tape.moved(1, 5000, 60_000) == [0, 55_000]


def test_chapters_are_moved_as_the_picture(tmp_path):
    import av

    source = videos.write(tmp_path / "a.mkv", videos.blocks(50), start=100)
    chapter = {"id": 1, "start": 101_000, "end": 102_000, "time_base": Fraction(1, 1000)}
    with av.open(source) as old, av.open(tmp_path / "b.mkv", "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        new.set_chapters([chapter | {"metadata": {"title": "two"}}])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    upscale(tmp_path / "b.mkv", tmp_path / "c.mkv")
    with av.open(tmp_path / "c.mkv") as found:
        (after,) = found.chapters()
    assert [after[x] * after["time_base"] for x in ("start", "end")] == [1, 2]


@pytest.mark.parametrize("suffix", RECORDINGS)
@pytest.mark.parametrize("starts", [(0, 0, 0), (20001, 3, 40000), (int(WRAP) - 1, 50, 50)])
def test_joined_recordings_become_one(tmp_path, suffix, starts, capsys):
    parts = [record(tmp_path / f"{i}{suffix}", 50, start) for i, start in enumerate(starts)]
    source = join(tmp_path / f"a{suffix}", *parts)
    for output in (tmp_path / "b.mkv", tmp_path / "b.mp4"):
        after, count = upscale(source, output, encoder=LOSSLESS), 50 * len(parts)
        steps = np.diff(after.times)
        assert len(after.times) == count and 0 <= after.times[0] < 0.03
        assert steps == pytest.approx(np.full(count - 1, 0.04), abs=2e-3)
        times = [time for time, _ in after.sound]
        assert times[0] == pytest.approx(0, abs=2e-3) and 5.9 < times[-1] < 6.1
        assert np.diff(times).min() > 0.01 and np.diff(times).max() < 0.08
        # The same sound comes in each part: it is moved as far as the picture.
        distances = {
            round(b - a, 2)
            for (a, x), (b, y) in itertools.product(after.sound, repeat=2)
            if x == y and b > a and len(x) > 100
        }
        assert distances == {2, 4}
        assert "warning" not in capsys.readouterr().out
    # The encoder's rounding differs, but no frame is missing: consecutive ones differ by more.
    first, second = after.frames[:50].astype(int), after.frames[50:100]
    assert np.abs(first - second).mean() < 0.5 < np.abs(first[1:] - second[:-1]).mean()


def test_a_recording_that_stops_amid_a_group_of_pictures(tmp_path):
    """Cut anywhere, as receivers do, and joined with one that starts anywhere."""
    settings = RECORDINGS[".ts"] | {"max_b_frames": 2, "gop_size": 12}
    parts = [
        videos.write(tmp_path / f"{start}.ts", videos.blocks(100), start=start, **settings)
        for start in (300, 2)
    ]
    first, second = (part.read_bytes() for part in parts)
    source = tmp_path / "a.ts"
    source.write_bytes(first[: len(first) // 188 * 2 // 3 * 188] + second[188 * 40 :])
    after = upscale(source, tmp_path / "b.mkv", encoder=LOSSLESS)
    steps = np.diff(after.times)
    assert len(after.times) > 150 and steps.min() > 0.015 and steps.max() < 0.13
    assert after.times[-1] == pytest.approx(after.sound[-1][0], abs=0.15)


def test_a_part_of_joined_recordings(tmp_path):
    whole = record(tmp_path / "0.ts", 50, 20001)
    source = join(tmp_path / "a.ts", whole, record(tmp_path / "1.ts", 50))
    after = upscale(source, tmp_path / "b.mkv", part=TimeRange(Fraction(1), Fraction(3)))
    assert after.times == pytest.approx([i / 25 for i in range(50)], abs=2e-3)
    times = [time for time, _ in after.sound]
    assert 0 <= times[0] < 0.03 and 1.9 < times[-1] < 2


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_variable_rates_become_constant_where_the_container_needs_it(tmp_path, suffix, capsys):
    times = [0, 0.04, 0.08, 0.12, 0.5, 0.54, 0.55, 0.56, 0.6, 0.64, 1.0, 1.04, 1.9, 1.94, 1.98]
    frames = videos.blocks(15)
    source = videos.write(tmp_path / "a.mkv", frames, times=times, sound=True)
    after = upscale(source, tmp_path / f"b{suffix}", encoder=LOSSLESS)
    said = "variable frame rate" in capsys.readouterr().out
    assert said == (suffix == ".avi")
    for time, frame in zip(after.times, after.frames, strict=True):
        near = np.abs(np.asarray(times) - time) < 0.9
        shown = videos.larger(frames)[near]
        assert any(np.array_equal(frame, other) for other in shown)
    assert after.times[-1] == pytest.approx(1.98, abs=0.07)
    if suffix == ".mkv":
        assert after.times == pytest.approx(times, abs=1e-3)
    else:
        assert after.times == pytest.approx([i / 25 for i in range(51)], abs=1e-3)


def test_a_constant_rate_stays_as_it_is(tmp_path, capsys):
    for rate, start in ((Fraction(24000, 1001), 0), (25, 0.02), (30, 0.5)):
        times = [round(start + float(i / rate), 3) for i in range(70)]
        source = videos.write(tmp_path / "a.mkv", videos.blocks(70), times=times, rate=round(rate))
        after = upscale(source, tmp_path / "b.avi", encoder=LOSSLESS, overwrite=True)
        np.testing.assert_array_equal(after.frames[-70:], videos.larger(videos.blocks(70)))
        assert "variable" not in capsys.readouterr().out
