"""Damage to a file: a tally while it is read, and checks of its structure.

FFmpeg reads past truncation and overwritten headers in silence. The checks follow the elements of
the formats that record their own length (MP4, Matroska, AVI, GIF), and decode nothing. Other
formats have no such record.
"""

import contextlib
import dataclasses
import io
import mmap
import pathlib
import zlib
from collections.abc import Callable, Iterator

from PIL import Image, ImageSequence

MATROSKA_SEGMENT, MATROSKA_CLUSTER, MATROSKA_CRC = 0x18538067, 0x1F43B675, 0xBF
# SeekHead, Info, Tracks, Cluster, Cues, Attachments, Chapters, Tags, Void, CRC-32.
MATROSKA_TOP = {
    *(0x114D9B74, 0x1549A966, 0x1654AE6B, MATROSKA_CLUSTER, 0x1C53BB6B, 0x1941A469),
    *(0x1043A770, 0x1254C367, 0xEC, MATROSKA_CRC),
}
# Timestamp, SimpleBlock, BlockGroup, PrevSize, Position, SilentTracks, EncryptedBlock.
MATROSKA_IN_CLUSTER = {0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854, 0xAF, 0xEC, MATROSKA_CRC}
GIF_TRAILER, GIF_EXTENSION, GIF_IMAGE = 0x3B, 0x21, 0x2C

Bytes = bytes | mmap.mmap
TRUNCATED = "the file is truncated"
NEAR = 3  # packets; a jump of the clock sets the corrupt flag of its neighbors


@dataclasses.dataclass
class Damage:
    """Losses while the packets of a video are read and decoded.

    Attributes:
        packets: number of packets that were read.
        unread: packets that could not be read.
        undecoded: indices of packets that could not be decoded.
        flagged: indices of packets that FFmpeg holds for corrupt.
        jumps: indices of packets at which the clock jumps, as in joined recordings.
        frames: frames that were decoded with errors.
        structure: of `find_damage`.
    """

    packets: int = 0
    unread: int = 0
    undecoded: set[int] = dataclasses.field(default_factory=set)
    flagged: set[int] = dataclasses.field(default_factory=set)
    jumps: set[int] = dataclasses.field(default_factory=set)
    frames: int = 0
    structure: str = ""

    def describe(self, count: int, expected: int) -> str:
        """Describes the losses in half a sentence; "": there were none.

        Args:
            count: frames that were read.
            expected: frames in the file, as far as it says; 0: unknown.
        """
        near = {i for jump in self.jumps for i in range(jump - NEAR, jump + NEAR + 1)}
        packets = self.unread + len(self.undecoded | self.flagged - near)
        parts = [
            _counted(packets, "packet", "could not be decoded") if packets else "",
            _counted(self.frames, "frame", "decoded with errors") if self.frames else "",
            self.structure,
        ]
        if any(parts) and count < expected:
            parts.append(f"{count} of about {expected} frames were read")
        return "; ".join(part for part in parts if part)


def _counted(count: int, what: str, happened: str) -> str:
    return f"{count} {what}{'s' * (count != 1)} {happened}"


def find_damage(path: pathlib.Path, format_name: str) -> str:
    """Describes the first damage to a file's structure.

    Args:
        path: of the file.
        format_name: FFmpeg's name of its format.

    Returns:
        Such as "the file is truncated"; "": none was found, or the format has no checks.
    """
    check = CHECKS.get(format_name)
    if check is None or not path.stat().st_size:
        return ""
    with _mapped(path) as data:
        try:
            return check(data)
        except IndexError:
            return TRUNCATED


@contextlib.contextmanager
def _mapped(path: pathlib.Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _invalid(at: int) -> str:
    return f"the bytes at {at:,} are invalid"


def _mp4(data: Bytes) -> str:
    at = 0
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8])
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size == 0:  # up to the end
            return ""
        # Any bytes may follow the last box.
        if at + size > len(data):
            return TRUNCATED if kind in (b"mdat", b"moof", b"moov") else ""
        at += max(size, 8)
    return ""


def _avi(data: Bytes) -> str:
    at = 0
    while bytes(data[at : at + 4]) == b"RIFF":
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > len(data):
            return TRUNCATED
        at += 8 + size + size % 2
    return ""


def _gif(data: Bytes) -> str:
    at = 13 + _colors(data[10])
    while data[at] != GIF_TRAILER:
        if data[at] == GIF_IMAGE:
            at += 11 + _colors(data[at + 9])
        elif data[at] == GIF_EXTENSION:
            at += 2
        else:
            return _invalid(at)
        while data[at]:  # the blocks of the image or extension
            at += 1 + data[at]
        at += 1
    return _gif_pixels(data)


def _gif_pixels(data: Bytes) -> str:
    """Decodes all images: unlike FFmpeg, Pillow reports those that end early."""
    with Image.open(io.BytesIO(data)) as image:
        try:
            for frame in ImageSequence.Iterator(image):
                frame.load()
        except OSError:
            return "a frame is incomplete"
    return ""


def _colors(flags: int) -> int:
    """Bytes of a GIF's table of colors."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _matroska(data: Bytes) -> str:
    _, _, at, size = _element(data, 0)
    at += size or 0
    kind, _, at, size = _element(data, at)
    if kind != MATROSKA_SEGMENT:
        return _invalid(at)
    end = len(data) if size is None else at + size
    if end > len(data):
        return TRUNCATED
    in_cluster = False  # of unknown size, as live recordings have it
    while at < end:
        kind, start, at, size = _element(data, at)
        if kind == MATROSKA_CLUSTER and size is not None:
            damage = _cluster(data, at, at + size) if at + size <= end else _invalid(start)
            if damage:
                return damage
        elif kind not in MATROSKA_TOP and not (in_cluster and kind in MATROSKA_IN_CLUSTER):
            return _invalid(start)
        elif size is not None and at + size > end:
            return TRUNCATED if end == len(data) else _invalid(start)
        in_cluster = (in_cluster and kind in MATROSKA_IN_CLUSTER) or (
            kind == MATROSKA_CLUSTER and size is None
        )
        at += size or 0
    return ""


def _cluster(data: Bytes, at: int, end: int) -> str:
    """Checks the elements and the checksum of a Matroska cluster."""
    while at < end:
        kind, start, at, size = _element(data, at)
        if kind not in MATROSKA_IN_CLUSTER or size is None or at + size > end:
            return _invalid(start)
        if kind == MATROSKA_CRC:
            found = zlib.crc32(memoryview(data)[at + size : end])
            if found != int.from_bytes(data[at : at + size], "little"):
                return f"the checksum at {start:,} does not fit the data"
        at += size
    return ""


def _element(data: Bytes, at: int) -> tuple[int, int, int, int | None]:
    """Id, first byte, first byte of the content, and size of an element; None: unknown size."""
    start, length = at, 9 - data[at].bit_length()
    kind = int.from_bytes(data[at : at + length], "big")
    at += length
    length = 9 - data[at].bit_length()
    size: int | None = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    if size == (1 << 7 * length) - 1:
        size = None
    return kind, start, at + length, size


CHECKS: dict[str, Callable[[Bytes], str]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": _mp4,
    "matroska,webm": _matroska,
    "avi": _avi,
    "gif": _gif,
}
