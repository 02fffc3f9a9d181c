"""Reads videos and folders of images frame by frame, as they are to be displayed."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from jaxvsr.errors import InputError
from jaxvsr.pixels import to_8_bits, to_16_bits
from jaxvsr.video.clock import Clock
from jaxvsr.video.colour import Colour, Converter, colour_of, is_deep
from jaxvsr.video.images import IMAGE_SUFFIXES, is_hidden, list_images, read_image
from jaxvsr.video.pyav import require_av

VIDEO_SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
    *(".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
)
MAX_DAMAGED = 1000  # undecodable packets after which reading stops
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """Properties of a video, known before it is read.

    Attributes:
        size: (h, w) of a displayed frame, pixels.
        length: estimated number of frames; 0 if nothing is known.
        rate: average frames per second.
        time_base: unit of the frames' times, seconds.
        pixel_format: FFmpeg's name.
        colour: matrix, range, primaries and transfer.
        aspect: width over height of a displayed pixel.
    """

    size: tuple[int, int]
    length: int
    rate: Fraction
    time_base: Fraction
    pixel_format: str
    colour: Colour
    aspect: Fraction

    @property
    def deep(self) -> bool:
        """Whether there are more than 8 bits per component."""
        return is_deep(self.pixel_format)


@dataclasses.dataclass(frozen=True)
class Frame:
    """A displayed frame.

    Attributes:
        pixels: (h, w, 3) RGB, uint8, or uint16 of a source with more than 8 bits.
        time: in units of the source's time base.
    """

    pixels: np.ndarray
    time: int


@dataclasses.dataclass(frozen=True)
class TimeRange:
    """A part of a video.

    Attributes:
        start: seconds after the first frame.
        end: seconds after the first frame, exclusive; None: the end of the video.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """A folder of images in natural order: frame 2 comes before frame 10."""

    path: pathlib.Path
    rate: Fraction = Fraction(25)

    def info(self) -> VideoInfo:
        """Reads the first image.

        Raises:
            InputError: the folder has no images, or the first one is damaged.
        """
        paths = list_images(self.path)
        if not paths:
            raise InputError(f"{self.path} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        pixels = read_image(paths[0])
        return VideoInfo(
            size=pixels.shape[:2],
            length=len(paths),
            rate=self.rate,
            time_base=1 / self.rate,
            pixel_format="rgb24" if pixels.dtype == np.uint8 else "rgb48le",
            colour=Colour(),
            aspect=Fraction(1),
        )

    def frames(self, part: TimeRange, say: Say) -> Iterator[Frame]:
        """Reads the images within a time range, all in the bit depth of the first.

        Args:
            part: to be read.
            say: receives a line about hidden files that were ignored.

        Raises:
            InputError: an image is damaged, or differs in size from those before it.
        """
        hidden = sum(is_hidden(path) for path in self.path.iterdir())
        if hidden:
            say(f"{self.path}: {hidden} hidden file{'s' * (hidden > 1)} ignored")
        first: np.ndarray | None = None
        for i, path in enumerate(list_images(self.path)):
            if part.end is not None and i >= part.end * self.rate:
                return
            if i < part.start * self.rate:
                continue
            pixels = read_image(path)
            first = pixels if first is None else first
            if pixels.shape != first.shape:
                raise InputError(
                    f"{path} is {_by(pixels.shape)}, but the images before it are "
                    f"{_by(first.shape)}: all images must have one size"
                )
            yield Frame(to_8_bits(pixels) if first.dtype == np.uint8 else to_16_bits(pixels), i)


@dataclasses.dataclass(frozen=True)
class VideoFile:
    """The first video stream of a file that is not cover art.

    Attributes:
        path: of the file.
        constant: whether frames are repeated and dropped so that the rate is constant.
    """

    path: pathlib.Path
    constant: bool = False

    def info(self) -> VideoInfo:
        """Decodes the first frame.

        Raises:
            InputError: PyAV is not installed, or the file is no video or has no frame.
        """
        with open_container(self.path) as container:
            stream = video_stream(container)
            frame = next(self._decoded(container.demux(stream), stream, print), None)
            if frame is None:
                raise InputError(f"{self.path} holds no frame that could be decoded")
            turned = _quarter_turns(frame) % 2
            size, aspect = (frame.height, frame.width), stream.sample_aspect_ratio or Fraction(1)
            average = stream.average_rate or stream.guessed_rate or Fraction(25)
            rate = _constant_rate(stream, average) if self.constant else average
            length = stream.frames or round(average * (container.duration or 0) / 1_000_000)
            return VideoInfo(
                size=size[::-1] if turned else size,
                length=round(length * rate / average),
                rate=rate,
                time_base=1 / rate if self.constant else stream.time_base,
                pixel_format=frame.format.name,
                colour=colour_of(frame, stream.codec_context),
                aspect=1 / aspect if turned else aspect,
            )

    def count_packets(self) -> int:
        """Number of coded frames: every packet is read, none is decoded."""
        with open_container(self.path) as container:
            return sum(packet.size > 0 for packet in container.demux(video_stream(container)))

    def frames(self, part: TimeRange, say: Say) -> Iterator[Frame]:
        """Decodes the frames within a time range. Undecodable packets are skipped.

        Args:
            part: to be read.
            say: receives a line about skipped packets, and about repeated and dropped frames.

        Raises:
            InputError: as `info`, or the size of the frames changes.
        """
        frames = self._timed_frames(part, say)
        return self._resampled(frames, self.info().rate, say) if self.constant else frames

    def _timed_frames(self, part: TimeRange, say: Say) -> Iterator[Frame]:
        """The frames with their own times."""
        info = self.info()
        target = "rgb48le" if info.deep else "rgb24"
        converters: dict[tuple, Converter] = {}
        with open_container(self.path) as container:
            stream = video_stream(container)
            clock = Clock(container, stream)
            unit = stream.time_base
            origin = round(clock.first / unit)
            start = origin + int(part.start / unit)
            if part.start > 0 and not clock.restarts:
                container.seek(start + round(clock.origin / unit), stream=stream)
            packets = _on_clock(container.demux(stream), clock)
            if part.start > 0 and clock.restarts:
                packets = _from_key_frame(packets, start)
            last, step = None, max(round(1 / (info.rate * unit)), 1)
            for frame in self._decoded(packets, stream, say):
                time = frame.pts
                if time is None:
                    time = origin if last is None else last + step
                if last is not None and time <= last:
                    time = last + 1
                last = time
                if (time - origin) * unit < part.start:
                    continue
                if part.end is not None and (time - origin) * unit >= part.end:
                    return
                key = (frame.height, frame.width), frame.format.name
                if key not in converters:
                    converters[key] = Converter(*key, target, info.colour)
                pixels = np.rot90(converters[key](frame).to_ndarray(), _quarter_turns(frame))
                if pixels.shape[:2] != info.size:
                    raise InputError(
                        f"{self.path}: frames change from {_by(info.size)} to "
                        f"{_by(pixels.shape)} at {float((time - origin) * unit):.2f} s: process "
                        "the parts one by one with --start and --end"
                    )
                yield Frame(pixels, time)

    def _resampled(self, frames: Iterator[Frame], rate: Fraction, say: Say) -> Iterator[Frame]:
        """Repeats and drops frames, so that they come at a constant rate."""
        with open_container(self.path) as container:
            unit = video_stream(container).time_base
        shown = next(frames, None)
        if shown is None:
            return
        begin, shown_at = shown.time, round(shown.time * unit * rate)
        first, repeated, dropped = shown_at, 0, 0
        for frame in frames:
            at = first + round((frame.time - begin) * unit * rate)
            for index in range(shown_at, at):
                yield Frame(shown.pixels, index)
            repeated += max(at - shown_at - 1, 0)
            dropped += at == shown_at
            shown, shown_at = frame, at
        yield Frame(shown.pixels, shown_at)
        if repeated or dropped:
            say(
                f"{self.path} has a variable frame rate, and the output {float(rate):.5g} frames "
                f"per second: {repeated} frames repeated, {dropped} dropped"
            )

    def _decoded(self, packets: Iterator[Any], stream: Any, say: Say) -> Iterator[Any]:
        """PyAV's frames; packets that cannot be decoded are skipped and counted."""
        av = require_av()
        stream.thread_type = "AUTO"
        damaged = 0
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                decoded = packet.decode()
            except av.error.FFmpegError:
                damaged += 1
                if damaged > MAX_DAMAGED:
                    break
                continue
            yield from decoded
        if damaged:
            say(f"warning: {self.path} is damaged: {damaged} packets could not be decoded")


def open_source(path: pathlib.Path, rate: Fraction | None = None) -> ImageFolder | VideoFile:
    """Opens a video or a folder of images; reads nothing yet.

    Args:
        path: of a video file or a folder of images.
        rate: frames per second of a folder of images; None: 25.

    Raises:
        InputError: the path does not exist, or a rate is given for a video.
    """
    if path.is_dir():
        return ImageFolder(path, rate or Fraction(25))
    if not path.exists():
        raise InputError(f"there is no {path}")
    if rate:
        raise InputError(f"--fps is for folders of images; {path} has its own frame times")
    return VideoFile(path)


@contextlib.contextmanager
def open_container(path: pathlib.Path) -> Iterator[Any]:
    """Opens a video with PyAV; errors become InputErrors that name the file."""
    av = require_av()
    try:
        # "file:" keeps a colon in the name from being read as a protocol.
        with av.open(f"file:{path}") as container:
            yield container
    except av.error.FFmpegError as error:
        raise InputError(f"{path} is not a video, or is damaged: {error.strerror}") from error


def video_stream(container: Any) -> Any:
    """Returns the first video stream that is not cover art.

    Raises:
        InputError: there is none.
    """
    cover = require_av().stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & cover:
            return stream
    raise InputError(f"{container.name.removeprefix('file:')} holds no video")


def _on_clock(packets: Iterator[Any], clock: Clock) -> Iterator[Any]:
    """Moves the times of all packets of a stream."""
    for packet in packets:
        clock.move(packet)
        yield packet


def _from_key_frame(packets: Iterator[Any], start: int) -> Iterator[Any]:
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


def _constant_rate(stream: Any, average: Fraction) -> Fraction:
    """The rate at which frames come mostly, if it is plausible; otherwise the average rate."""
    usual = stream.guessed_rate or average
    plausible = average * Fraction(99, 100) <= usual <= 2 * average
    return (usual if plausible else average).limit_denominator(1001)


def _quarter_turns(frame: Any) -> int:
    """Anticlockwise quarter turns by which a frame is rotated for display."""
    return round(frame.rotation / 90) % 4


def _by(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
