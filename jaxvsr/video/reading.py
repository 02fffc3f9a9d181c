"""Reads videos and folders of images frame by frame, as they are to be displayed."""

import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from jaxvsr.errors import InputError
from jaxvsr.files import check_regular
from jaxvsr.pixels import to_8_bits, to_16_bits
from jaxvsr.video.clock import Clock
from jaxvsr.video.color import Color, Converter, color_of, is_deep
from jaxvsr.video.demuxing import (
    decode_packets,
    from_key_frame,
    on_clock,
    open_container,
    read_packets,
    video_stream,
)
from jaxvsr.video.images import (
    IMAGE_SUFFIXES,
    Picture,
    compose_on_black,
    fill_transparent,
    is_animation,
    is_hidden,
    list_folder,
    list_images,
    read_image,
    read_picture,
)
from jaxvsr.video.integrity import Damage, find_damage
from jaxvsr.video.pyav import require_av

VIDEO_SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
    *(".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
)
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
        color: matrix, range, primaries and transfer.
        aspect: width over height of a displayed pixel.
    """

    size: tuple[int, int]
    length: int
    rate: Fraction
    time_base: Fraction
    pixel_format: str
    color: Color
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
        alpha: (h, w) opacity, of the same dtype; None: opaque.
        profile: ICC profile of the pixels; b"": none.
    """

    pixels: np.ndarray
    time: int
    alpha: np.ndarray | None = None
    profile: bytes = b""


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
    """A folder of images in natural order (frame 2 comes before frame 10), or a single image.

    Attributes:
        path: of the folder or the image.
        rate: frames per second.
        keep_alpha: whether frames have alpha; otherwise they are composed on black.
        keep_profile: whether frames have an ICC profile.
    """

    path: pathlib.Path
    rate: Fraction = Fraction(25)
    keep_alpha: bool = False
    keep_profile: bool = False

    @property
    def single(self) -> bool:
        """Whether this is a single image."""
        return not self.path.is_dir()

    def paths(self) -> list[pathlib.Path]:
        """Lists the images.

        Raises:
            InputError: there are none, or the folder cannot be read.
        """
        paths = [self.path] if self.single else list_images(self.path)
        if not paths:
            raise InputError(f"{self.path} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        return paths

    def info(self) -> VideoInfo:
        """Reads the first image.

        Raises:
            InputError: the folder has no images, or the first one is damaged.
        """
        paths = self.paths()
        with _listed(paths[0]):
            pixels = read_image(paths[0])
        return VideoInfo(
            size=pixels.shape[:2],
            length=len(paths),
            rate=self.rate,
            time_base=1 / self.rate,
            pixel_format="rgb24" if pixels.dtype == np.uint8 else "rgb48le",
            color=Color(),
            aspect=Fraction(1),
        )

    def fingerprint(self) -> str:
        """Returns a text that changes if an image is added, removed or written again."""
        state = hashlib.sha256()
        for path in self.paths():
            with _listed(path):
                found = path.stat()
            state.update(f"{path.name}/{found.st_size}/{found.st_mtime_ns}/".encode())
        return state.hexdigest()

    def frames(self, part: TimeRange, say: Say) -> Iterator[Frame]:
        """Reads the images within a time range, all in the bit depth of the first.

        Args:
            part: to be read.
            say: receives a line about each kind of thing that is left out.

        Raises:
            InputError: an image is damaged, or differs in size from those before it.
        """
        said = set[str]()

        def say_once(line: str) -> None:
            if line not in said:
                said.add(line)
                say(line)

        if not self.single:
            _say_ignored(self.path, say)
        first: np.ndarray | None = None
        for i, path in enumerate(self.paths()):
            if part.end is not None and i >= part.end * self.rate:
                return
            if i < part.start * self.rate:
                continue
            with _listed(path):
                picture = self._without_unkept(read_picture(path), say_once)
            first = picture.pixels if first is None else first
            if picture.pixels.shape != first.shape:
                raise InputError(
                    f"{path} is {_by(picture.pixels.shape)}, but the images before it are "
                    f"{_by(first.shape)}: all images must have one size"
                )
            if picture.pages > 1:
                say_once(f"warning: {self.path}: only the first image of each file is read")
            depth = to_8_bits if first.dtype == np.uint8 else to_16_bits
            alpha = None if picture.alpha is None else depth(picture.alpha)
            yield Frame(depth(picture.pixels), i, alpha, picture.profile)

    def _without_unkept(self, picture: Picture, say: Say) -> Picture:
        """Drops alpha and profile unless they are kept."""
        if picture.alpha is not None and not self.keep_alpha:
            if picture.alpha.min() < np.iinfo(picture.alpha.dtype).max:
                say(f"{self.path}: transparent parts are composed on black")
            picture = compose_on_black(picture)
        picture = fill_transparent(picture)
        if picture.profile and not self.keep_profile:
            if b"sRGB" not in picture.profile.replace(b"\0", b""):
                say(f"warning: {self.path}: ICC profiles are not kept; colors may look different")
            picture = dataclasses.replace(picture, profile=b"")
        return picture


@contextlib.contextmanager
def _listed(path: pathlib.Path) -> Iterator[None]:
    """Turns errors about a file that was listed and is not there into InputErrors."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path} is a broken link, or was removed meanwhile") from error


def _say_ignored(folder: pathlib.Path, say: Say) -> None:
    """Says which files of a folder are not read as images."""
    files = [path for path in list_folder(folder) if is_hidden(path) or not path.is_dir()]
    hidden = sum(map(is_hidden, files))
    other = [path.name for path in files if not path.name.lower().endswith(IMAGE_SUFFIXES)]
    other = sorted(name for name in other if not name.startswith("."))
    if hidden:
        say(f"{folder}: {hidden} hidden file{'s' * (hidden > 1)} ignored")
    if other:
        names = ", ".join(other[:3] + ["..."] * (len(other) > 3))
        say(f"{folder}: {len(other)} other file{'s' * (len(other) > 1)} ignored: {names}")


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
            packets = read_packets(container, stream)
            frame = next(decode_packets(packets, stream, Damage()), None)
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
                color=color_of(frame, stream.codec_context),
                aspect=1 / aspect if turned else aspect,
            )

    def fingerprint(self) -> str:
        """Returns a text that changes if the file is written again."""
        found = self.path.stat()
        return f"{found.st_size}/{found.st_mtime_ns}"

    def count_packets(self) -> int:
        """Number of coded frames: every packet is read, none is decoded."""
        with open_container(self.path) as container:
            packets = read_packets(container, video_stream(container))
            return sum(packet.size > 0 for packet in packets)

    def frames(self, part: TimeRange, say: Say) -> Iterator[Frame]:
        """Decodes the frames within a time range. Packets that cannot be decoded are skipped.

        Args:
            part: to be read.
            say: receives a line about losses, and one about repeated and dropped frames.

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
                # Where seeking fails, all frames are decoded up to the start.
                with contextlib.suppress(require_av().error.FFmpegError):
                    container.seek(start + round(clock.origin / unit), stream=stream)
            damage, count = Damage(), 0
            packets = on_clock(read_packets(container, stream, damage), clock, damage)
            if part.start > 0 and clock.restarts:
                packets = from_key_frame(packets, start)
            last, step = None, max(round(1 / (info.rate * unit)), 1)
            for frame in decode_packets(packets, stream, damage):
                time = frame.pts
                if time is None:
                    time = origin if last is None else last + step
                if last is not None and time <= last:
                    time = last + max(step // 2, 1)
                last = time
                if (time - origin) * unit < part.start:
                    continue
                if part.end is not None and (time - origin) * unit >= part.end:
                    break
                key = (frame.height, frame.width), frame.format.name
                if key not in converters:
                    converters[key] = Converter(*key, target, info.color)
                pixels = np.rot90(converters[key](frame).to_ndarray(), _quarter_turns(frame))
                if pixels.shape[:2] != info.size:
                    raise InputError(
                        f"{self.path}: frames change from {_by(info.size)} to "
                        f"{_by(pixels.shape)} at {float((time - origin) * unit):.2f} s: process "
                        "the parts one by one with --start and --end"
                    )
                yield Frame(pixels, time)
                count += 1
            else:  # the whole file was read
                damage.structure = find_damage(self.path, container.format.name)
                if container.format.name == "avi" and not part.start:
                    damage.unread += max(len(stream.index_entries) - damage.packets, 0)
            lost = damage.describe(count, info.length if part == TimeRange() else 0)
            if lost:
                say(f"warning: {self.path} is damaged: {lost}")

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
                f"per second; frames repeated: {repeated}, dropped: {dropped}"
            )


def open_source(path: pathlib.Path, rate: Fraction | None = None) -> ImageFolder | VideoFile:
    """Opens a video, a folder of images, or a single image; reads no pixels yet.

    Args:
        path: of the file or folder.
        rate: frames per second of images; None: 25.

    Raises:
        InputError: the path does not exist, or a rate is given for a video.
    """
    if path.is_dir():
        return ImageFolder(path, rate or Fraction(25))
    if not path.exists():
        raise InputError(f"there is no {path}")
    check_regular(path)
    # FFmpeg decodes animations, Pillow all kinds of still images.
    if path.suffix.lower() in IMAGE_SUFFIXES and not is_animation(path):
        return ImageFolder(path, rate or Fraction(25))
    if rate:
        raise InputError(f"--fps is for folders of images; {path} has its own frame times")
    return VideoFile(path)


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
