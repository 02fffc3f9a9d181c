"""Sound, subtitles and other streams in the output."""

from fractions import Fraction

import numpy as np
import pytest
import videos
from videos import upscale

from jaxvsr.errors import InputError

av = pytest.importorskip("av")
H264 = {"codec": "libx264", "pix_fmt": "yuv420p"}
PGS = b"\x16\x00\x0b" + bytes(11), b"\x80\x00\x00"  # two segments of one empty picture
MPEG4 = {"codec": "mpeg4", "pix_fmt": "yuv420p", "unit": Fraction(1, 25)}


def with_stream(path, codec, packets, kind="", **metadata):
    """A video with one more stream.

    Args:
        packets: time and duration in seconds, and bytes.
    """
    plain = videos.write(path.with_name(f"plain{path.suffix}"), videos.blocks(25), **H264)
    with av.open(plain) as old, av.open(path, "w") as new:
        video = new.add_stream_from_template(old.streams.video[0])
        stream = new.add_data_stream(codec) if kind == "data" else new.add_mux_stream(codec)
        stream.metadata.update(metadata)
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = video
                new.mux(packet)
        for time, duration, data in packets:
            packet = av.Packet(data)
            packet.time_base = Fraction(1, 1000)
            packet.pts = packet.dts = round(time * 1000)
            packet.duration, packet.stream = round(duration * 1000), stream
            new.mux(packet)
    return path


def contents(path, kind):
    """Codec, and time, duration and bytes of the packets of the first stream of a kind."""
    with av.open(path) as container:
        (stream,) = [stream for stream in container.streams if stream.type == kind]
        context = stream.codec_context
        packets = [packet for packet in container.demux(stream) if packet.size]
        times = [float(packet.pts * packet.time_base) for packet in packets]
        name = context and context.codec.canonical_name
        return name, times, [bytes(packet) for packet in packets]


@pytest.mark.parametrize(
    ("encoder", "name", "settings", "before", "after"),
    [
        ("ac3", "ac3", H264, ".ts", ".mp4"),
        ("aac", "aac", H264, ".ts", ".mp4"),
        ("aac", "aac", H264, ".ts", ".mkv"),
        ("aac", "aac", H264, ".ts", ".avi"),
        ("adpcm_ima_wav", "adpcm_ima_wav", MPEG4, ".avi", ".mkv"),
        ("adpcm_ms", "adpcm_ms", MPEG4, ".avi", ".avi"),
        ("pcm_s24le", "pcm_s24le", MPEG4, ".mkv", ".mov"),
        ("alac", "alac", MPEG4, ".mp4", ".mkv"),
        ("flac", "flac", MPEG4, ".mkv", ".mp4"),
    ],
)
def test_sound_of_any_codec_is_copied(tmp_path, encoder, name, settings, before, after):
    source = tmp_path / f"a{before}"
    videos.write(source, videos.blocks(25), sound=encoder, **settings)
    output = tmp_path / f"b{after}"
    upscale(source, output)
    assert contents(output, "audio")[0] == contents(source, "audio")[0] == name
    heard = []
    for path in (source, output):
        with av.open(path) as container:
            pieces = [frame.to_ndarray() for frame in container.decode(audio=0)]
        heard.append(np.concatenate(pieces, axis=1).astype(float))
    length = min(sound.shape[1] for sound in heard)
    assert length > 40_000
    np.testing.assert_array_equal(*(sound[:, :length] for sound in heard))


@pytest.mark.parametrize("codec", ["hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle"])
def test_subtitles_as_bitmaps_are_copied(tmp_path, codec):
    """FFmpeg has no encoder for the first."""
    packets = [(time, 0.1, data) for time in (0.2, 0.5) for data in PGS]
    source = with_stream(tmp_path / "a.mkv", codec, packets, language="nob")
    upscale(source, tmp_path / "b.mkv")
    found = contents(tmp_path / "b.mkv", "subtitle")
    assert found == contents(source, "subtitle") and found[0] == codec and len(found[2]) in (2, 4)
    with av.open(tmp_path / "b.mkv") as container:
        assert container.streams[1].metadata["language"] == "nob"


TEXTS = {
    "mov_text": (".mp4", b"\x00\x08We meet."),
    "subrip": (".mkv", b"We meet."),
    "webvtt": (".webm", b"We meet."),
}
"""Container, and one line of text."""


@pytest.mark.parametrize(
    ("codec", "suffix", "expected"),
    [
        ("mov_text", ".mkv", "subrip"),
        ("mov_text", ".mov", "mov_text"),
        ("subrip", ".mp4", "mov_text"),
        ("subrip", ".webm", "webvtt"),
    ],
)
def test_subtitles_as_text_are_converted(tmp_path, capsys, codec, suffix, expected):
    before, text = TEXTS[codec]
    source = with_stream(tmp_path / f"a{before}", codec, [(0.2, 0.4, text)])
    upscale(source, tmp_path / f"b{suffix}")
    said = capsys.readouterr().out
    assert (f"to {expected}" in said) == (codec != expected)
    name, times, packets = contents(tmp_path / f"b{suffix}", "subtitle")
    shown = [(time, data) for time, data in zip(times, packets, strict=True) if len(data) > 2]
    assert name == expected and len(shown) == 1
    assert shown[0][0] == pytest.approx(0.2) and b"We meet." in shown[0][1]


def test_subtitles_without_a_decoder(tmp_path, capsys):
    text = b"<tt xmlns='http://www.w3.org/ns/ttml'></tt>"
    source = with_stream(tmp_path / "a.mp4", "ttml", [(0, 0.5, text)])
    upscale(source, tmp_path / "b.mp4")
    assert contents(tmp_path / "b.mp4", "subtitle")[::2] == (None, [text])
    capsys.readouterr()
    upscale(source, tmp_path / "b.mkv")
    assert "warning: left out the subtitle stream 1 of" in capsys.readouterr().out


def test_data_is_copied_where_the_container_can_hold_it(tmp_path):
    source = with_stream(tmp_path / "a.ts", "klv", [(0.2, 0, b"\x06\x0e+4data")], kind="data")
    upscale(source, tmp_path / "b.ts", copy=["data"])
    assert contents(tmp_path / "b.ts", "data")[2] == [b"\x06\x0e+4data"]
    upscale(source, tmp_path / "b.mkv")
    with pytest.raises(InputError, match=r"mkv cannot hold the data .*: use an output .*\.ts"):
        upscale(source, tmp_path / "c.mkv", copy=["data"])


def test_damaged_sound_is_left_out_in_part(tmp_path, capsys):
    source = videos.write(tmp_path / "a.ts", videos.blocks(25), sound=True, **H264)
    data = bytearray(source.read_bytes())
    with av.open(source) as container:
        places = [packet.pos for packet in container.demux(audio=0) if packet.pos]
    for place in places[1:]:  # the first packet of the second PES packet
        start = data.index(b"\xff\xf1", place)
        data[start : start + 4] = bytes(4)
    source.write_bytes(data)
    upscale(source, tmp_path / "b.mkv")
    upscale(source, tmp_path / "b.mp4")
    assert contents(tmp_path / "b.mp4", "audio")[0] == "aac"


def test_a_timecode_stays(tmp_path):
    source = tmp_path / "a.mov"
    videos.write(source, videos.blocks(5), metadata={"timecode": "01:00:00:00"}, **H264)
    assert contents(source, "data")[0] is None
    for copy in (None, ["data"]):
        upscale(source, tmp_path / "b.mov", copy=copy, overwrite=True)
        with av.open(tmp_path / "b.mov") as container:
            assert container.streams.video[0].metadata["timecode"] == "01:00:00:00"


def test_titles_in_latin_1_are_read(tmp_path):
    plain = videos.write(tmp_path / "plain.mkv", videos.blocks(3))
    with (
        av.open(plain) as old,
        av.open(tmp_path / "a.mkv", "w", metadata_encoding="latin-1") as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        new.metadata["title"] = stream.metadata["title"] = "Fenêtre sur cour"
        new.set_chapters(
            [
                {
                    "id": 1,
                    "start": 0,
                    "end": 100,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": "Été"},
                }
            ]
        )
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    for suffix in (".mkv", ".mp4"):
        after = upscale(tmp_path / "a.mkv", tmp_path / f"b{suffix}")
        assert after.metadata["title"] == "Fenêtre sur cour"
        with av.open(tmp_path / f"b{suffix}") as container:
            assert container.chapters()[0]["metadata"]["title"] == "Été"


def test_a_stream_that_does_not_fit_is_refused_before_work(tmp_path):
    source = with_stream(
        tmp_path / "a.mkv", "hdmv_pgs_subtitle", [(0.2, 0.2, data) for data in PGS]
    )
    with pytest.raises(InputError, match=r"\.mp4 cannot hold the subtitle .*: use an output \.mkv"):
        upscale(source, tmp_path / "b.mp4")
    upscale(source, tmp_path / "b.mp4", copy=["sound"])
