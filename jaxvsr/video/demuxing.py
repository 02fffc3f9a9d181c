"""Packets of videos: opening files, choosing the video stream, reading and decoding."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

from jaxvsr.errors import InputError
from jaxvsr.video.clock import Clock
from jaxvsr.video.integrity import Damage
from jaxvsr.video.pyav import require_av

MAX_ERRORS = 1000  # attempts to read one packet


@contextlib.contextmanager
def open_container(path: pathlib.Path) -> Iterator[Any]:
    """Opens a video with PyAV; errors become InputErrors that name the file."""
    av = require_av()
    try:
        # "file:" keeps a colon in the name from being read as a protocol.
        # Titles may be in an older encoding than UTF-8: see readable_text.
        container = av.open(f"file:{path}", metadata_errors="surrogateescape")
    except av.error.FFmpegError as error:
        raise InputError(f"{path} is not a video, or is damaged: {error.strerror}") from error
    with container:
        yield container


def video_stream(container: Any) -> Any:
    """Returns the first video stream that is not cover art.

    Raises:
        InputError: there is none.
    """
    cover = require_av().stream.Disposition.attached_pic
    name = container.name.removeprefix("file:")
    for stream in container.streams.video:
        if not stream.disposition & cover:
            if stream.codec_context is None:
                raise InputError(f"{name}: FFmpeg has no decoder for its video")
            return stream
    raise InputError(f"{name} holds no video")


def readable_text(text: str) -> str:
    """Returns metadata as text: what is not UTF-8 is taken for Latin-1."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="surrogateescape").decode("latin-1")
    return text


def read_packets(container: Any, streams: Any, damage: Damage | None = None) -> Iterator[Any]:
    """Reads the packets of a stream, or a list of them; continues after errors.

    Args:
        container, streams: of PyAV.
        damage: counts the errors.
    """
    attempts = 0
    while attempts < MAX_ERRORS:
        try:
            for packet in container.demux(streams):
                attempts = 0
                yield packet
            return
        except require_av().error.FFmpegError:
            attempts += 1
            if damage is not None:
                damage.unread += 1


def decode_packets(packets: Iterator[Any], stream: Any, damage: Damage) -> Iterator[Any]:
    """Yields PyAV's frames; packets that cannot be decoded are skipped and counted."""
    stream.thread_type = "AUTO"
    if stream.codec_context.name == "ffv1":
        # Otherwise FFmpeg conceals what does not fit its checksum, without a flag.
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
    for index, packet in enumerate(packets):
        try:
            frames = packet.decode()
        except require_av().error.FFmpegError:
            damage.undecoded.add(index)
            continue
        for frame in frames:
            damage.frames += frame.is_corrupt
            yield frame


def on_clock(packets: Iterator[Any], clock: Clock, damage: Damage) -> Iterator[Any]:
    """Yields a stream's packets with moved times, and notes which are flagged as corrupt."""
    for index, packet in enumerate(packets):
        part = clock.part
        clock.move(packet)
        if clock.part > part:
            damage.jumps.add(index)
        damage.packets += packet.size > 0
        if packet.is_corrupt:
            damage.flagged.add(index)
        yield packet


def from_key_frame(packets: Iterator[Any], start: int) -> Iterator[Any]:
    """Skips the packets before the last key frame that is displayed before `start`."""
    held: list[Any] = []
    for packet in packets:
        if packet.pts is None or packet.pts >= start:
            held.append(packet)
            break
        if packet.is_keyframe:
            held.clear()
        held.append(packet)
    yield from held
    yield from packets
