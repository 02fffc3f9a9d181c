"""Writes videos: from frames, or from encoded packets together with the input's other streams."""

import contextlib
import dataclasses
import heapq
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from jaxvsr.console import say
from jaxvsr.errors import InputError
from jaxvsr.video.copying import (
    CopiedStreams,
    add_streams,
    copied_packets,
    limits,
    open_clock,
)
from jaxvsr.video.demuxing import open_container, video_stream
from jaxvsr.video.encoding import (
    Encoder,
    EncoderOptions,
    Encoding,
    choose_encoding,
    container_format,
    has_variable_rate,
)
from jaxvsr.video.pyav import require_av
from jaxvsr.video.reading import TimeRange

# Frame index in display order, whether it is a key frame, and the encoded bytes.
Packet = tuple[int, bool, bytes]


def write_video(
    path: pathlib.Path,
    frames: Iterable[np.ndarray],
    rate: float | Fraction,
    options: EncoderOptions | None = None,
) -> pathlib.Path:
    """Writes frames as a video, by default H.264.

    Args:
        path: of the video; its folder is created where it is missing.
        frames: each (h, w, 3) RGB uint8 or uint16, all of one size. Where the pixel format needs
            even sizes, the last row or column of an odd size is cropped.
        rate: frames per second.
        options: of the encoder; None: defaults by the suffix.

    Returns:
        The path.

    Raises:
        InputError: PyAV is not installed, there are no frames, or the options are impossible.
    """
    rate, options = Fraction(rate).limit_denominator(65535), options or EncoderOptions()
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise InputError(f"{path}: there are no frames to write")
    depth = "rgb24" if first.dtype == np.uint8 else "rgb48le"
    encoding = choose_encoding(path, options, first.shape[:2], rate, depth)
    height, width = first.shape[:2] if options.height else encoding.size
    encoder, packets, count = Encoder(encoding), list[Packet](), 0
    for pixels in itertools.chain([first], iterator):
        packets += map(_as_tuple, encoder.encode(pixels[:height, :width]))
        count += 1
    packets += map(_as_tuple, encoder.flush())
    path.parent.mkdir(parents=True, exist_ok=True)
    delay = reorder_delay(frame for frame, *_ in packets)
    mux(path, encoding, CopiedStreams(), iter(packets), delay, range(count), 1 / rate)
    return path


def mux(
    path: pathlib.Path,
    encoding: Encoding,
    copied: CopiedStreams,
    packets: Iterator[Packet],
    delay: int,
    times: Sequence[int],
    unit: Fraction,
) -> list[str]:
    """Writes a video from encoded packets and copied streams.

    Args:
        path: of the video.
        encoding: by which the packets were made.
        copied: streams of the input that the video receives, too.
        packets: in decoding order.
        delay: largest number of places by which a packet comes later than its frame is displayed.
        times: display time of each frame, in units of `unit`, on the input's `Clock`.
        unit: seconds; one frame for containers of constant rate.

    Returns:
        Lines for the user about streams that are converted or left out.

    Raises:
        InputError: the container cannot hold the streams.
    """
    av = require_av()
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_container(copied.path)) if copied.path else None
        name = container_format(path).name
        options = {"movflags": "use_metadata_tags"} if name in ("mp4", "mov") else {}
        output = av.open(f"file:{path}", "w", format=name, options=options)
        stack.enter_context(output)
        video = output.add_stream(encoding.codec, rate=encoding.rate)
        encoding.configure(video.codec_context)
        video.time_base = unit
        if encoding.codec == "libx265" and "movflags" in options:
            video.codec_context.codec_tag = "hvc1"  # Apple's players need it
        clock = open_clock(copied.path, source, copied.part) if copied.path else None
        shift, end = limits(clock, copied.part)
        copies, lines = add_streams(output, source, copied, encoding, clock) if clock else ({}, [])
        output.start_encoding()
        streams = [_video_packets(packets, delay, times, unit, shift, video)]
        if clock:
            # Other containers store sound that precedes the first sample, such as AAC's priming.
            exact = shift or clock.origin or not has_variable_rate(path)
            begin = shift if exact else None
            streams.append(copied_packets(source, clock, copies, shift, begin, end))
        dropped = 0
        with _explained(path):
            for packet in heapq.merge(*streams, key=_decoding_time):
                try:
                    output.mux(packet)
                except av.error.FFmpegError as error:
                    if packet.stream.index == video.index or isinstance(error, OSError):
                        raise
                    dropped += 1
            output.close()
    if dropped:
        say(f"warning: {copied.path}: left out {dropped} damaged packets of sound or subtitles")
    return lines


@contextlib.contextmanager
def _explained(path: pathlib.Path) -> Iterator[None]:
    """Turns FFmpeg's errors about an output into InputErrors, but for those of the disk."""
    try:
        yield
    except require_av().error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise InputError(
            f"FFmpeg cannot write {path.suffix}: {error.strerror}. Try another container, or "
            "leave out streams by --copy"
        ) from error


def reorder_delay(frames: Iterable[int]) -> int:
    """Largest number of places by which a packet comes later than its frame is displayed.

    Args:
        frames: frame index of each packet, in decoding order.
    """
    return max(place - frame for place, frame in enumerate(frames))


def try_encoding(
    folder: pathlib.Path, suffix: str, encoding: Encoding, copied: CopiedStreams
) -> None:
    """Writes a video of one grey frame and removes it, to find impossible settings early.

    Args:
        folder: for the temporary video.
        suffix: of the output.
        encoding, copied: as for `mux`.

    Raises:
        InputError: the encoder or the container refuses the settings.
    """
    path = folder / f"test{suffix}"
    av = require_av()
    try:
        encoder = Encoder(encoding)
        grey = np.full((*encoding.size, 3), 128, np.uint8)
        packets = [*encoder.encode(grey), *encoder.flush()]
        if encoder.unknown:
            raise InputError(f"{encoding.codec} has no option {', '.join(encoder.unknown)}")
        without_packets = dataclasses.replace(copied, part=TimeRange(end=Fraction(0)))
        one = [(0, packet.is_keyframe, bytes(packet)) for packet in packets]
        lines = mux(path, encoding, without_packets, iter(one), 0, [0], 1 / encoding.rate)
        # Some formats are not recognized by so little.
        kept = True
        with contextlib.suppress(InputError), open_container(path) as written:
            kept = (video_stream(written).sample_aspect_ratio or 1) == encoding.aspect
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, InputError | OSError):  # OSError: the disk's
            raise
        height, width = encoding.size
        raise InputError(
            f"{encoding.codec} cannot encode {width}x{height} {encoding.pixel_format} in {suffix}: "
            f"{error}. Try another --codec, --pix_fmt or container"
        ) from error
    finally:
        path.unlink(missing_ok=True)
    for line in lines:
        say(line)
    if not kept:
        say(
            f"warning: {encoding.codec} in {suffix} cannot store the pixel aspect ratio "
            f"{encoding.aspect}: players will show square pixels"
        )


def _as_tuple(packet: Any) -> Packet:
    return packet.pts, packet.is_keyframe, bytes(packet)


def _video_packets(
    packets: Iterator[Packet],
    delay: int,
    times: Sequence[int],
    unit: Fraction,
    shift: Fraction,
    stream: Any,
) -> Iterator[Any]:
    """PyAV's packets with their times: packet i is decoded when frame i - delay is displayed."""
    av = require_av()
    offset = round(shift / unit)
    usual = max(round(1 / (stream.codec_context.framerate * unit)), 1)
    step = times[1] - times[0] if len(times) > 1 else usual
    for i, (frame, key, data) in enumerate(packets):
        packet = av.Packet(data)
        decoded = times[i - delay] if i >= delay else times[0] - (delay - i) * step
        packet.pts, packet.dts = times[frame] - offset, decoded - offset
        last = frame + 1 == len(times)
        packet.duration = usual if last else times[frame + 1] - times[frame]
        packet.is_keyframe, packet.time_base, packet.stream = key, unit, stream
        yield packet


def _decoding_time(packet: Any) -> Fraction:
    return packet.dts * packet.time_base
