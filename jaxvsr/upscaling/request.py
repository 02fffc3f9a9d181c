"""The options of `upscale`, and their checks before long work."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence
from fractions import Fraction

from jaxvsr.errors import InputError
from jaxvsr.upscaling import compare
from jaxvsr.upscaling.stream import Settings
from jaxvsr.video.encoding import EncoderOptions
from jaxvsr.video.images import IMAGE_SUFFIXES, MAX_SIDE, WITH_QUALITY
from jaxvsr.video.reading import ImageFolder, TimeRange, VideoFile

SEGMENT = 240  # frames
MAX_RATE = 1000  # frames per second
STREAM_KINDS = {
    "sound": "audio",
    "subtitles": "subtitle",
    "attachments": "attachment",
    "data": "data",
}
COPY = ("sound", "subtitles", "attachments")
IMAGES, QUALITY = "png", 95
FORMATS = ("png", "jpg", "webp", "tif")  # of a folder of images


@dataclasses.dataclass(frozen=True)
class Request:
    """Options of `upscale` apart from the input, the output and the network.

    Attributes:
        settings: how time and frames are split.
        encoder: options for the encoding of a video.
        part: time range to be upscaled.
        rate: frames per second of a folder of images; None: 25.
        copy: keys of STREAM_KINDS, streams to be copied; None: COPY.
        folder: whether the output is a folder of images whatever its name is.
        images: one of FORMATS, that of a folder of images; "": IMAGES.
        quality: of JPEG and WebP, 1 to 100; None: QUALITY.
        compare: "side", "split" or "".
        preview: index of a frame that is written first as a PNG; None: no preview.
        segment: frames per segment.
        resume: whether an interrupted run is resumed.
        overwrite: whether an existing output is replaced.
    """

    settings: Settings = dataclasses.field(default_factory=Settings)
    encoder: EncoderOptions = dataclasses.field(default_factory=EncoderOptions)
    part: TimeRange = dataclasses.field(default_factory=TimeRange)
    rate: Fraction | None = None
    copy: Sequence[str] | None = None
    folder: bool = False
    images: str = ""
    quality: int | None = None
    compare: str = ""
    preview: int | None = None
    segment: int = SEGMENT
    resume: bool = False
    overwrite: bool = False


@dataclasses.dataclass(frozen=True)
class Target:
    """The kind of an output.

    Attributes:
        kind: "video", "image" or "folder" (of images).
        suffix: of each file that is written.
    """

    kind: str
    suffix: str


def find_target(output: pathlib.Path, request: Request) -> Target:
    """Tells the kind of an output by its name, unless the request says that it is a folder."""
    suffix = output.suffix.lower()
    if not request.folder and suffix in IMAGE_SUFFIXES:
        return Target("image", suffix)
    # ".2" at the end of "res v1.2" is no file name suffix.
    if not request.folder and re.fullmatch(r"\.\w*[a-z]\w*", suffix):
        return Target("video", output.suffix)
    return Target("folder", f".{request.images or IMAGES}")


def check_request(source: ImageFolder | VideoFile, output: pathlib.Path, request: Request) -> None:
    """Checks the output's place and the options, before anything is read.

    Args:
        source: of `open_source`.
        output: path, whose kind `find_target` tells.
        request: to be checked.

    Raises:
        InputError: an option is impossible or would do nothing, or the output cannot be written.
    """
    if request.images not in ("", *FORMATS):
        raise InputError(f"--images must be one of: {', '.join(FORMATS)}; got {request.images!r}")
    target = find_target(output, request)
    _check_output(source, output, request, target)
    _check_unused(source, output, request, target)
    if request.compare not in ("", *compare.KINDS):
        raise InputError(
            f"--compare must be one of: {', '.join(compare.KINDS)}; got {request.compare!r}"
        )
    unknown = [kind for kind in request.copy or () if kind not in STREAM_KINDS]
    if unknown:
        raise InputError(
            f"--copy must list some of: {', '.join(STREAM_KINDS)}; got {', '.join(unknown)!r}"
        )
    if request.part.end is not None and request.part.end <= request.part.start:
        raise InputError("--end must be later than --start")


def check_images(target: Target, size: tuple[int, int], height: int = 0) -> None:
    """Checks that the format of images can hold the output.

    Args:
        target: of the output.
        size: (H, W) in pixels.
        height: to which it is resized; 0: it is not.

    Raises:
        InputError: it has too many rows or columns.
    """
    if height:
        size = height, round(size[1] * height / size[0])
    limit = MAX_SIDE.get(target.suffix)
    if limit and max(size) > limit:
        raise InputError(
            f"{target.suffix} holds up to {limit} rows and columns, but the output has "
            f"{size[1]}x{size[0]} pixels: use png or tif"
        )


def _check_output(
    source: ImageFolder | VideoFile, output: pathlib.Path, request: Request, target: Target
) -> None:
    if output.exists() and not request.overwrite:
        raise InputError(f"{output} exists already: choose another name, or add --overwrite")
    if output.exists() and output.samefile(source.path):
        raise InputError(f"{output} is the input itself: choose another output")
    if output.exists() and output.is_dir() != (target.kind == "folder"):
        kind = "folder" if output.is_dir() else "file"
        raise InputError(
            f"{output} is a {kind}: the name of a video needs a suffix, that of a folder of images "
            "none, or a / at its end"
        )
    if output.is_dir():
        _check_replaceable(source, output)
    if not output.parent.is_dir():
        raise InputError(f"there is no folder {output.parent} to write into: create it")
    if not os.access(output.parent, os.W_OK):
        raise InputError(f"the folder {output.parent} is not writable")
    if target.kind == "image" and not (isinstance(source, ImageFolder) and source.single):
        raise InputError(
            f"{output} is a single image, and {source.path} is none: name a folder, or add a / at "
            "the end of the output's name to make it one"
        )
    inside = source.path.is_dir() and output.parent.samefile(source.path)
    if request.preview is not None and inside:
        raise InputError(
            f"--preview would write among the images of {source.path}: choose another output"
        )


def _check_replaceable(source: ImageFolder | VideoFile, output: pathlib.Path) -> None:
    """Refuses to replace a folder that is more than an earlier output."""
    if source.path.resolve().is_relative_to(output.resolve()):
        raise InputError(
            f"the input {source.path} is inside {output}, which --overwrite replaces: choose "
            "another output"
        )
    for path in output.iterdir():
        if not (path.name.startswith(".") or path.suffix.lower() in IMAGE_SUFFIXES):
            raise InputError(
                f"{output} holds more than images ({path.name}), and --overwrite replaces the "
                "whole folder: choose another output"
            )


def _check_unused(
    source: ImageFolder | VideoFile, output: pathlib.Path, request: Request, target: Target
) -> None:
    """Refuses options that would do nothing for this kind of input and output."""
    encoder = request.encoder
    for_videos = {
        "--codec": encoder.codec,
        "--crf": encoder.crf is not None,
        "--lossless": encoder.lossless,
        "--pix_fmt": encoder.pixel_format,
        "--codec_options": encoder.options,
        "--copy": request.copy is not None,
    }
    kind = {"video": "a video", "image": "an image", "folder": "a folder of images"}[target.kind]
    for flag, given in for_videos.items():
        if given and target.kind != "video":
            raise InputError(
                f"{flag} is for videos, but the output {output} is {kind}: leave it out"
            )
    if request.images and target.kind != "folder":
        raise InputError(
            f"--images is for folders of images, but the output {output} is {kind}: leave it out"
        )
    if request.quality is not None and target.kind == "video":
        raise InputError(
            f"--quality is for folders of images, but the output {output} is {kind}: leave it out"
        )
    if request.quality is not None and target.suffix not in WITH_QUALITY:
        raise InputError(
            "--quality is for JPEG and WebP: add --images=jpg or --images=webp, or leave it out"
        )
    if request.copy is not None and isinstance(source, ImageFolder):
        raise InputError(
            f"--copy is for videos, but the input {source.path} is a folder: leave it out"
        )


def parse_time(text: str) -> Fraction | None:
    """Parses a time such as "90", "1:30" or "0:01:30.5" as seconds; "" as None.

    Raises:
        ValueError: another text.
    """
    if not text:
        return None
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise ValueError(f"a time must be like 90, 1:30 or 0:01:30.5; got {text!r}")
    seconds = Fraction(0)
    for part in text.split(":"):
        seconds = 60 * seconds + Fraction(part)
    return seconds


def parse_rate(text: str) -> Fraction | None:
    """Parses frames per second such as "25" or "30000/1001"; "" as None.

    Raises:
        ValueError: another text, or a rate that no video has.
    """
    if not text:
        return None
    pattern = r"\d{1,9}(\.\d{1,9}|/0{0,9}[1-9]\d{0,9})?"
    if re.fullmatch(pattern, text) and 0 < Fraction(text) <= MAX_RATE:
        return Fraction(text)
    raise ValueError(
        f"--fps must be frames per second, above 0 and up to {MAX_RATE}, for example 25 or "
        f"30000/1001; got {text[:20]!r}"
    )


def parse_tile(text: str) -> tuple[int, int]:
    """Parses WIDTHxHEIGHT as (h, w); "" as zeros.

    Raises:
        ValueError: another text.
    """
    if not text:
        return 0, 0
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise ValueError(f"--tile must be WIDTHxHEIGHT, for example 320x180; got {text!r}")
    return int(match[2]), int(match[1])


def parse_option(text: str) -> tuple[str, str]:
    """Parses "name=value".

    Raises:
        ValueError: another text.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(
            f"--codec_options must be name=value, for example preset=slow; got {text!r}"
        )
    return name, value
