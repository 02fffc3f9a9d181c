"""Videos and folders of images, read frame by frame as they are to be seen."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxvsr.data.degradations.codecs import require_av
from jaxvsr.errors import InputError
from jaxvsr.video.colour import Colour, Converter, colour_of, is_deep

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Info:
    """What is known of a video before it is read.

    Attributes:
        size: (h, w) of a frame as it is to be seen, pixels.
        length: frames, as far as the file says; 0 if it does not.
        rate: frames a second, on average.
        time_base: seconds that the times of frames are counted in.
        pixel_format: FFmpeg's name.
        colour: of the frames.
        aspect: width over height of a pixel as it is to be seen.
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
        """Whether there are more than 8 bits a component."""
        return is_deep(self.pixel_format)


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame as it is to be seen.

    Attributes:
        pixels: (h, w, 3) RGB, uint8, or uint16 of a deep video.
        time: in units of the video's time base.
    """

    pixels: np.ndarray
    time: int


@dataclasses.dataclass(frozen=True)
class Span:
    """A part of a video.

    Attributes:
        start, end: seconds since the video's first frame; an end of None is the video's.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None


@dataclasses.dataclass(frozen=True)
class Folder:
    """Images of a folder in the order of their names."""

    path: pathlib.Path
    rate: Fraction = Fraction(25)

    def paths(self) -> list[pathlib.Path]:
        """The images."""
        return sorted(p for p in self.path.iterdir() if p.suffix.lower() in IMAGES)

    def info(self) -> Info:
        """Looks at the first image.

        Raises:
            InputError: there is none.
        """
        paths = self.paths()
        if not paths:
            raise InputError(f"{self.path} holds no images ({', '.join(IMAGES)})")
        height, width, _ = _read_image(paths[0]).shape
        unit = 1 / self.rate
        return Info((height, width), len(paths), self.rate, unit, "rgb24", Colour(), Fraction(1))

    def frames(self, span: Span, say: Say) -> Iterator[Frame]:
        """The images within a span.

        Raises:
            InputError: one is none, or of another size than the first.
        """
        size = None
        for number, path in enumerate(self.paths()):
            if span.end is not None and number >= span.end * self.rate:
                return
            if number < span.start * self.rate:
                continue
            pixels = _read_image(path)
            size = size or pixels.shape
            if pixels.shape != size:
                raise InputError(
                    f"{path} is {_by(pixels.shape)}, but the images before are {_by(size)}: they "
                    "must be of one size"
                )
            yield Frame(pixels, number)


@dataclasses.dataclass(frozen=True)
class Video:
    """The first video stream of a file."""

    path: pathlib.Path

    def info(self) -> Info:
        """Decodes the first frame.

        Raises:
            InputError: PyAV is not installed, or the file is no video, or without a frame.
        """
        with opened(self.path) as container:
            stream = video_stream(container)
            frame = next(self._decoded(container, stream, print), None)
            if frame is None:
                raise InputError(f"{self.path} holds no frame that could be decoded")
            turned = _quarter_turns(frame) % 2
            size, aspect = (frame.height, frame.width), stream.sample_aspect_ratio or Fraction(1)
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            length = stream.frames or round(rate * (container.duration or 0) / 1_000_000)
            return Info(
                size=size[::-1] if turned else size,
                length=length,
                rate=rate,
                time_base=stream.time_base,
                pixel_format=frame.format.name,
                colour=colour_of(frame, stream.codec_context),
                aspect=1 / aspect if turned else aspect,
            )

    def frames(self, span: Span, say: Say) -> Iterator[Frame]:
        """The frames within a span; what cannot be decoded is left out, and said.

        Raises:
            InputError: as `info`, or a frame is of another size than the first.
        """
        info = self.info()
        target = "rgb48le" if info.deep else "rgb24"
        converters: dict[tuple, Converter] = {}
        with opened(self.path) as container:
            stream = video_stream(container)
            unit = stream.time_base
            origin = stream.start_time or 0
            if span.start > 0:
                container.seek(origin + int(span.start / unit), stream=stream)
            last, step = None, max(round(1 / (info.rate * unit)), 1)
            for frame in self._decoded(container, stream, say):
                time = frame.pts
                if time is None:
                    time = origin if last is None else last + step
                if last is not None and time <= last:
                    time = last + 1
                last = time
                if (time - origin) * unit < span.start:
                    continue
                if span.end is not None and (time - origin) * unit >= span.end:
                    return
                key = (frame.height, frame.width), frame.format.name
                if key not in converters:
                    converters[key] = Converter(*key, target, info.colour)
                pixels = np.rot90(converters[key](frame).to_ndarray(), _quarter_turns(frame))
                if pixels.shape[:2] != info.size:
                    raise InputError(
                        f"{self.path}: at {float((time - origin) * unit):.2f} s frames are "
                        f"{_by(pixels.shape)}, before they were {_by(info.size)}: cut the parts "
                        "out by --start and --end, and restore them one by one"
                    )
                yield Frame(pixels, time)

    def _decoded(self, container: Any, stream: Any, say: Say) -> Iterator[Any]:
        """The frames that can be decoded."""
        av = require_av()
        stream.thread_type = "AUTO"
        damaged = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                decoded = packet.decode()
            except av.error.FFmpegError:
                damaged += 1
                if damaged > 1000:
                    break
                continue
            yield from decoded
        if damaged:
            say(f"warning: {self.path} is damaged: {damaged} packets could not be decoded")


def find(path: pathlib.Path, rate: Fraction | None) -> Folder | Video:
    """What is to be restored.

    Args:
        path: of a video or a folder of images.
        rate: of a folder's images, frames a second.

    Raises:
        InputError: there is nothing, or a rate was given for a video.
    """
    if path.is_dir():
        return Folder(path, rate or Fraction(25))
    if not path.exists():
        raise InputError(f"there is no {path}")
    if rate:
        raise InputError(f"--fps is for folders of images; {path} has its own times")
    return Video(path)


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[Any]:
    """PyAV's container of a video; its errors name the file."""
    av = require_av()
    try:
        with av.open(path) as container:
            yield container
    except av.error.FFmpegError as error:
        raise InputError(f"{path} is not a video, or damaged: {error.strerror}") from error


def video_stream(container: Any) -> Any:
    """The first video stream that is no cover picture.

    Raises:
        InputError: there is none.
    """
    cover = require_av().stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & cover:
            return stream
    raise InputError(f"{container.name} holds no video")


def _quarter_turns(frame: Any) -> int:
    """Anticlockwise, of a frame that is to be turned to be seen."""
    return round(frame.rotation / 90) % 4


def _read_image(path: pathlib.Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path} is not an image, or damaged: {error}") from error


def _by(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
