"""The video file itself: coded frames with their times, and what is copied from the input."""

import contextlib
import dataclasses
import heapq
import pathlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from jaxvsr.console import say
from jaxvsr.data.degradations.codecs import require_av
from jaxvsr.errors import InputError
from jaxvsr.video.encoder import Coding, Encoder
from jaxvsr.video.reader import Span, opened, video_stream

LATE = 10  # seconds by which packets of several streams may be out of order
# What a muxer writes by itself.
OWN = ("encoder", "major_brand", "minor_version", "compatible_brands", "creation_time")


@dataclasses.dataclass(frozen=True)
class Copied:
    """What goes from the input into the output as it is.

    Attributes:
        path: of the input; None where that is a folder of images.
        span: the part that is restored.
        kinds: of streams: "audio", "subtitle", "attachment", "data".
    """

    path: pathlib.Path | None
    span: Span
    kinds: tuple[str, ...] = ("audio", "subtitle", "attachment")


def write(
    path: pathlib.Path,
    coding: Coding,
    copied: Copied,
    packets: Iterator[tuple[int, bool, bytes]],
    delay: int,
    times: Sequence[int],
    unit: Fraction,
) -> None:
    """Writes a video from coded frames, without coding again.

    Args:
        path: of the file.
        coding: of the frames.
        copied: what else goes into it.
        packets: the number of the frame of each, whether it is a key frame, and itself.
        delay: how many places later than they are shown frames come, at most.
        times: of the frames, in units of `unit` seconds.
        unit: of the times.

    Raises:
        InputError: the container cannot hold it.
    """
    av = require_av()
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(opened(copied.path)) if copied.path else None
        options = (
            {"movflags": "use_metadata_tags"} if path.suffix in (".mp4", ".mov", ".m4v") else {}
        )
        output = stack.enter_context(av.open(path, "w", options=options))
        if not output.format.flags & av.format.Flags.variable_fps.value:
            times, unit = _evenly(times, unit, coding.rate), 1 / coding.rate
        video = output.add_stream(coding.codec, rate=coding.rate)
        coding.set(video.codec_context)
        video.time_base = unit
        if coding.codec == "libx265" and "movflags" in options:
            video.codec_context.codec_tag = "hvc1"  # as Apple's players want it
        others = _add_copied(output, source, copied) if source else {}
        output.start_encoding()
        shift, end = _limits(source, copied.span)
        streams = [_coded(packets, delay, times, unit, shift, video)]
        if source:
            streams.append(_copied(source, others, shift, end))
        for packet in heapq.merge(*streams, key=_when):
            output.mux(packet)


def rehearse(folder: pathlib.Path, suffix: str, coding: Coding, copied: Copied) -> None:
    """Writes a video of one frame and removes it, so that what cannot work is known at once.

    Args:
        folder: for the file.
        suffix: of the output.
        coding, copied: as `write`'s.

    Raises:
        InputError: the encoder or the container refuses.
    """
    path = folder / f"rehearsal{suffix}"
    av = require_av()
    try:
        encoder = Encoder(coding)
        grey = np.full((*coding.size, 3), 128, np.uint8)
        coded = [*encoder.encode(grey), *encoder.flush()]
        if encoder.unknown:
            raise InputError(f"{coding.codec} knows no option {', '.join(encoder.unknown)}")
        packets = [(0, packet.is_keyframe, bytes(packet)) for packet in coded]
        without = dataclasses.replace(copied, span=Span(end=Fraction(0)))
        write(path, coding, without, iter(packets), 0, [0], 1 / coding.rate)
        with opened(path) as written:
            kept = (video_stream(written).sample_aspect_ratio or 1) == coding.aspect
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        height, width = coding.size
        raise InputError(
            f"{coding.codec} of {width}x{height} {coding.pixel_format} in {suffix} does not work: "
            f"{error}. Another --codec, --pix_fmt or container may"
        ) from error
    finally:
        path.unlink(missing_ok=True)
    if not kept:
        say(
            f"warning: {coding.codec} in {suffix} cannot say that pixels are of shape "
            f"{coding.aspect}: players will take them for squares"
        )


def _add_copied(output: Any, source: Any, copied: Copied) -> dict[int, Any]:
    """Adds what is copied: streams by their number in the source, chapters, metadata."""
    cover = video_stream(source).index
    streams = {}
    for stream in source.streams:
        if stream.index == cover or stream.type not in copied.kinds:
            continue
        if stream.type == "attachment":
            name, known = "a file", "matroska" in output.format.name
        else:
            name = stream.codec_context.codec.canonical_name
            known = name in output.supported_codecs
        if not known:
            raise InputError(
                f"{pathlib.Path(output.name).suffix} cannot hold the {stream.type} of {source.name}"
                f" ({name}): name an output .mkv, or leave it out by --copy"
            )
        streams[stream.index] = output.add_stream_from_template(stream)
        streams[stream.index].metadata.update(stream.metadata)
        streams[stream.index].disposition = stream.disposition.value
    output.metadata.update({k: v for k, v in source.metadata.items() if k not in OWN})
    if not copied.span.start and copied.span.end is None:
        output.set_chapters(source.chapters())
    return streams


def _limits(source: Any, span: Span) -> tuple[Fraction, Fraction | None]:
    """Seconds on the source's clock: what becomes zero, and where the output ends."""
    if source is None:
        return Fraction(0), None
    stream = video_stream(source)
    origin = (stream.start_time or 0) * stream.time_base
    shift = origin + span.start if span.start else Fraction(0)
    return shift, None if span.end is None else origin + span.end


def _coded(
    packets: Iterator[tuple[int, bool, bytes]],
    delay: int,
    times: Sequence[int],
    unit: Fraction,
    shift: Fraction,
    stream: Any,
) -> Iterator[Any]:
    """Packets of frames with their times; the i-th is decoded when frame i - delay is shown."""
    av = require_av()
    offset = round(shift / unit)
    usual = max(round(1 / (stream.codec_context.framerate * unit)), 1)
    step = times[1] - times[0] if len(times) > 1 else usual
    for i, (number, key, data) in enumerate(packets):
        packet = av.Packet(data)
        decoded = times[i - delay] if i >= delay else times[0] - (delay - i) * step
        packet.pts, packet.dts = times[number] - offset, decoded - offset
        last = number + 1 == len(times)
        packet.duration = usual if last else times[number + 1] - times[number]
        packet.is_keyframe, packet.time_base, packet.stream = key, unit, stream
        yield packet


def _copied(
    source: Any, streams: dict[int, Any], shift: Fraction, end: Fraction | None
) -> Iterator[Any]:
    """What lies between two times of the source, moved by the first."""
    wanted = [source.streams[index] for index in streams]
    for packet in source.demux(wanted) if wanted else ():
        if packet.dts is None or not packet.size:  # says that there is no more
            continue
        time = (packet.dts if packet.pts is None else packet.pts) * packet.time_base
        if end is not None and time > end + LATE:
            return
        if (shift and time < shift) or (end is not None and time >= end):
            continue
        moved = round(shift / packet.time_base)
        packet.dts -= moved
        if packet.pts is not None:
            packet.pts -= moved
        packet.stream = streams[packet.stream.index]
        yield packet


def _when(packet: Any) -> Fraction:
    return packet.dts * packet.time_base


def _evenly(times: Sequence[int], unit: Fraction, rate: Fraction) -> list[int]:
    """Times as numbers of frames at a constant rate, each of its own."""
    even: list[int] = []
    for time in times:
        even.append(max(round((time - times[0]) * unit * rate), even[-1] + 1 if even else 0))
    return even
