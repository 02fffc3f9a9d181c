"""Copies sound, subtitles and other streams of the input to the output."""

import contextlib
import dataclasses
import functools
import io
import pathlib
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any

from jaxvsr.errors import InputError
from jaxvsr.video.clock import Clock
from jaxvsr.video.demuxing import open_container, read_packets, readable_text, video_stream
from jaxvsr.video.encoding import Encoding, container_format
from jaxvsr.video.pyav import require_av
from jaxvsr.video.reading import TimeRange

INTERLEAVING = 10  # seconds by which packets of different streams may be out of order in a file
# Metadata that muxers write themselves.
MUXER_METADATA = (
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "creation_time",
)
# Statistics that programs write into streams, true of the input only.
STATISTICS = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS_")
# Of the video stream; the muxer sets all else.
VIDEO_METADATA = ("language", "title", "timecode")
TEXT = ("subrip", "mov_text", "webvtt")  # encoders of subtitles, best first
TS_CODECS = (
    *("aac", "ac3", "dts", "dvb_subtitle", "dvb_teletext", "eac3", "mp2", "mp3", "opus", "truehd"),
)
ADTS_IN_AVI = "\x10\x16\0\0"
OTHER_SUFFIXES = (".mkv", ".mp4", ".ts", ".mov", ".avi")  # suggested where a stream does not fit


@dataclasses.dataclass(frozen=True)
class CopiedStreams:
    """Streams that are copied from the input to the output without re-encoding.

    Attributes:
        path: of the input; None: a folder of images, which has no streams.
        part: time range that is upscaled.
        kinds: of streams: "audio", "subtitle", "attachment", "data".
    """

    path: pathlib.Path | None = None
    part: TimeRange = dataclasses.field(default_factory=TimeRange)
    kinds: tuple[str, ...] = ("audio", "subtitle", "attachment")


@dataclasses.dataclass(frozen=True)
class Copy:
    """A stream of the output.

    Attributes:
        stream: PyAV's.
        convert: returns the packets that replace one of the input.
    """

    stream: Any
    convert: Callable[[Any], Iterable[Any]] = lambda packet: (packet,)


def add_streams(
    output: Any, source: Any, copied: CopiedStreams, encoding: Encoding, clock: Clock
) -> tuple[dict[int, Copy], list[str]]:
    """Adds the copied streams, chapters and metadata to an output.

    Args:
        output, source: containers of PyAV.
        copied: which streams.
        encoding: of the output's video, which is its first stream.
        clock: of the source.

    Returns:
        A copy for each index of a source's stream, and lines for the user about what is converted
        or left out.

    Raises:
        InputError: the container cannot hold a stream.
    """
    suffix, copies, lines = pathlib.Path(output.name).suffix, dict[int, Copy](), list[str]()
    video, whole = video_stream(source), copied.part == TimeRange()
    output.streams.video[0].metadata.update(
        (key, readable_text(value))
        for key, value in video.metadata.items()
        if key in VIDEO_METADATA and (whole or key != "timecode")
    )
    for stream in source.streams:
        if stream.index == video.index or stream.type not in copied.kinds:
            continue
        if stream.type == "data" and "timecode" in stream.metadata:
            continue  # kept as metadata of the video
        name = f"{stream.type} stream {stream.index} of {copied.path} ({_codec(stream)})"
        if _holds(suffix, encoding, source, stream):
            copy = Copy(_added(output, stream))
        elif text := _text_encoder(suffix, encoding, stream):
            copy = _converted(output, stream, text)
            lines.append(f"converting the {name} to {text}")
        elif stream.codec_context is None and stream.type not in ("attachment", "data"):
            lines.append(f"warning: left out the {name}: {suffix} cannot hold it")
            continue
        else:
            fits = (s for s in OTHER_SUFFIXES if _holds(s, encoding, source, stream))
            other = next(fits, "")
            instead = f"use an output {other}, or " if other else ""
            raise InputError(
                f"{suffix} cannot hold the {name}: {instead}leave the stream out with --copy"
            )
        copy.stream.metadata.update(_metadata(stream.metadata))
        copy.stream.disposition = stream.disposition.value
        copies[stream.index] = copy
    output.metadata.update(_metadata(source.metadata))
    if whole:
        output.set_chapters([_moved_chapter(x, clock.origin) for x in source.chapters()])
    return copies, lines


def _codec(stream: Any) -> str:
    """Name of a stream's codec; of an attachment its file name."""
    if stream.codec_context is None:
        return stream.metadata.get("filename", "unknown codec")
    return stream.codec_context.codec.canonical_name


def _holds(suffix: str, encoding: Encoding, source: Any, stream: Any) -> bool:
    """Whether a container can hold a stream of the source beside the video."""
    if "mpegts" in container_format(pathlib.Path(f"a{suffix}")).name and (
        source.format.name != "mpegts" and _codec(stream) not in TS_CODECS
    ):
        return False  # its muxer takes anything, but players read only these
    return _starts(suffix, encoding, functools.partial(_added, stream=stream))


def _text_encoder(suffix: str, encoding: Encoding, stream: Any) -> str:
    """The encoder to which a container's text subtitles are converted; "": none."""
    context = stream.codec_context
    if stream.type != "subtitle" or context is None or not context.codec.text_sub:
        return ""
    fitting = (
        name
        for name in TEXT
        if _starts(suffix, encoding, functools.partial(_converted, stream=stream, encoder=name))
    )
    return next(fitting, "")


def _starts(suffix: str, encoding: Encoding, add: Callable[[Any], Any]) -> bool:
    """Whether FFmpeg writes the header of a file with the video and one more stream."""
    av = require_av()
    with contextlib.suppress(av.error.FFmpegError, ValueError):
        name = container_format(pathlib.Path(f"a{suffix}")).name
        with av.open(io.BytesIO(), "w", format=name) as trial:
            video = trial.add_stream(encoding.codec, rate=encoding.rate)
            encoding.configure(video.codec_context)
            add(trial)
            trial.start_encoding()
            return True
    return False


def _added(output: Any, stream: Any) -> Any:
    """Adds a copy of a source's stream; ValueError where the container refuses it."""
    try:
        new = output.add_stream_from_template(stream)
        if output.format.name == "avi" and _codec(stream) == "aac" and not stream.extradata:
            # Sound of transport streams has headers in its packets instead of one for all.
            new.codec_context.codec_tag = ADTS_IN_AVI
        return new
    except ValueError:
        # FFmpeg writes more than it declares, such as ADPCM in Matroska. The filter replaces the
        # codec of the stream by the source's.
        stand_ins = {"audio": (output.default_audio_codec,), "subtitle": TEXT}
        for name in stand_ins.get(stream.type, ()):
            with contextlib.suppress(ValueError):
                new = output.add_mux_stream(name, time_base=stream.time_base)
                require_av().bitstream.BitStreamFilterContext("null", stream, new)
                return new
        raise


def _converted(output: Any, stream: Any, encoder: str) -> Copy:
    """Adds a stream of subtitles to which those of a source are converted."""
    new, decoder = output.add_stream(encoder), stream.codec_context
    decoder.open(strict=False)
    new.codec_context.subtitle_header = decoder.subtitle_header
    new.codec_context.time_base = new.time_base = Fraction(1, 1000)

    def convert(packet: Any) -> Iterable[Any]:
        made = []
        with contextlib.suppress(require_av().error.FFmpegError):  # damaged text
            subtitle = decoder.decode2(packet)
            if subtitle is not None and len(subtitle):
                made.append(new.codec_context.encode_subtitle(subtitle))
        for text in made:
            text.time_base, text.duration = packet.time_base, packet.duration
            text.pts, text.dts = packet.pts, packet.dts
        return made

    return Copy(new, convert)


def _metadata(metadata: dict[str, str]) -> dict[str, str]:
    """The metadata that stay true in the output."""
    return {
        key: readable_text(value)
        for key, value in metadata.items()
        if key not in MUXER_METADATA and not key.startswith(STATISTICS)
    }


def _moved_chapter(chapter: dict[str, Any], origin: Fraction) -> dict[str, Any]:
    moved = round(origin / chapter["time_base"])
    times = {name: max(chapter[name] - moved, 0) for name in ("start", "end")}
    return chapter | times | {"metadata": _metadata(chapter["metadata"])}


def open_clock(path: pathlib.Path, source: Any, part: TimeRange) -> Clock:
    """Returns the clock of a file after a first pass, which finds the shifts of all its parts."""
    with open_container(path) as container:
        video = video_stream(container)
        clock = Clock(container, video)
        _, end = limits(clock, part)
        for packet in read_packets(container, video) if clock.restarts else ():
            clock.move(packet)
            time = (packet.pts or 0) * packet.time_base
            if end is not None and time > end + INTERLEAVING:
                break
    return Clock(source, video_stream(source), clock.shifts)


def limits(clock: Clock | None, part: TimeRange) -> tuple[Fraction, Fraction | None]:
    """Returns the seconds on the clock that become zero, and where the output ends."""
    if clock is None:
        return Fraction(0), None
    shift = clock.first + part.start if part.start else Fraction(0)
    return shift, None if part.end is None else clock.first + part.end


def copied_packets(
    source: Any,
    clock: Clock,
    copies: dict[int, Copy],
    shift: Fraction,
    begin: Fraction | None,
    end: Fraction | None,
) -> Iterator[Any]:
    """Yields the packets of copied streams with their times in the output.

    Args:
        source: container of PyAV.
        clock: of the source.
        copies: of `add_streams`.
        shift: seconds on the clock that become zero.
        begin, end: limits on the clock; None: all packets.
    """
    wanted = [source.streams[index] for index in copies]
    if wanted and clock.restarts:
        wanted.append(video_stream(source))  # defines the parts
    last: dict[int, int] = {}
    for packet in read_packets(source, wanted) if wanted else ():
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.dts is None or not packet.size:  # marks the end of a stream
            continue
        if not clock.move(packet):
            continue
        index = packet.stream.index
        time = (packet.dts if packet.pts is None else packet.pts) * packet.time_base
        if end is not None and time > end + INTERLEAVING:
            return
        early = begin is not None and time < begin
        if index not in copies or early or (end is not None and time >= end):
            continue
        # Where parts of a recording overlap, the earlier one is kept.
        if packet.dts < last.get(index, packet.dts):
            continue
        if packet.stream.type == "audio":
            last[index] = packet.dts + ((packet.duration or 0) // 2 if clock.restarts else 0)
        moved = round(shift / packet.time_base)
        packet.dts -= moved
        if packet.pts is not None:
            packet.pts -= moved
        for copy in copies[index].convert(packet):
            copy.stream = copies[index].stream
            yield copy
