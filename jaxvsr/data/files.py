"""Clips on disk: folders or zip files of frames, and video files, checked before they are read.

Frames are read by `jaxvsr.video`. Data sets are stricter: an image must hold 8-bit RGB, all frames
of a clip must have one size, and no frame may be missing or damaged.
"""

import collections
import dataclasses
import itertools
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxvsr.data import degradations
from jaxvsr.errors import InputError
from jaxvsr.files import check_regular
from jaxvsr.pixels import to_8_bits
from jaxvsr.video.images import ORIENTATION, PNG_SIGNATURE, Place, decode_image, list_images
from jaxvsr.video.reading import TimeRange, VideoFile

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg")
_COLORS = {0: "grey", 2: "RGB", 3: "color-mapped", 4: "grey with alpha", 6: "RGB with alpha"}
_PNG_HEADER = 33  # bytes of the signature and the first chunk, which holds size and color type


def find_folder(root: str | os.PathLike, *places: str) -> Place:
    """Finds a folder below a root, on the disk or inside a zip file in the root.

    Args:
        root: folder that the user filled.
        places: relative paths, the preferred one first.

    Returns:
        Path of the first place that is a folder.

    Raises:
        FileNotFoundError: none is; the message lists the contents of the root.
        ValueError: a zip file is damaged.
    """
    root = pathlib.Path(root)
    bases: list[Place] = [root, *map(_open_zip, sorted(root.glob("*.zip")))]
    for base in bases:
        for place in places:
            folder = base / place
            if folder.is_dir():
                return folder
    if not root.is_dir():
        raise FileNotFoundError(f"expected a folder {root}, found no such folder")
    names = sorted(path.name for path in root.iterdir())
    found = ", ".join(names[:10] + ["..."] * (len(names) > 10)) or "nothing"
    near = [root.resolve().parent, *(path for path in sorted(root.iterdir()) if path.is_dir())]
    there = [base for base in near if any((base / place).is_dir() for place in places)]
    hint = f"; {there[0]} has it: give that folder instead" if there else ""
    wanted = " or ".join(places)
    raise FileNotFoundError(f"expected a folder {wanted} in {root}, found {found}{hint}")


def _open_zip(path: pathlib.Path) -> zipfile.Path:
    try:
        return zipfile.Path(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged or incomplete: {error}") from error


def read_list(path: Place, pattern: str, example: str) -> list[str]:
    """Reads a text file of clip names, one per line.

    Args:
        path: of the text file.
        pattern: regular expression for a whole name. It must not match a path that leads out of the
            data's folder.
        example: a valid name, for the message.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is empty, or a name does not match or is repeated.
    """
    try:
        names = path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file of clip names: {error}") from error
    if not names:
        raise ValueError(f"{path} names no clips")
    for name in names:
        if not re.fullmatch(pattern, name):
            raise ValueError(f"{path} names {name!r}, expected names such as {example}")
    if len(set(names)) < len(names):
        raise ValueError(f"{path} names clips twice")
    return names


def numbered_frames(folder: Place, suffixes: tuple[str, ...] = FRAME_SUFFIXES) -> list[Place]:
    """Lists the frames of a folder in the order of the numbers in their names.

    The frame index is the last number that differs from name to name: 7 in frame_0007_x4.png. It
    may start anywhere and advance in any step. Names with irregular numbers, such as time stamps,
    are sorted by all their numbers.

    Raises:
        ValueError: there are none, a name has no number, or a number is missing or repeated.
    """
    paths = list_images(folder, suffixes)
    if not paths:
        names = " or ".join(f"*{suffix}" for suffix in suffixes)
        raise ValueError(f"expected frames {names} in {folder}, found none")
    numbers = [[int(digits) for digits in re.findall(r"[0-9]+", path.stem)] for path in paths]
    for path, found in zip(paths, numbers, strict=True):
        if not found:
            raise ValueError(f"{path} has no number in its name")
    places = range(1, min(map(len, numbers)) + 1)
    indices = [[found[-place] for found in numbers] for place in places]
    distinct = [index for index in indices if len(set(index)) == len(paths)]
    if not distinct and len(set(map(tuple, numbers))) < len(paths):
        number, count = collections.Counter(indices[0]).most_common(1)[0]
        raise ValueError(f"{folder} has {'two' if count == 2 else count} frames {number}")
    regular = [(gaps, index) for index in distinct if (gaps := _gaps(index)) is not None]
    if not regular:
        return [path for _, path in sorted(zip(numbers, paths, strict=True))]
    missing, index = min(regular, key=lambda each: len(each[0]))
    if missing:
        raise ValueError(
            f"{folder} has frames {min(index)} to {max(index)}, but no frame {missing[0]}"
        )
    return [path for _, path in sorted(zip(index, paths, strict=True))]


def _gaps(index: Sequence[int]) -> list[int] | None:
    """The frame indices that are missing between others; None: most are not equally far apart."""
    ordered = sorted(index)
    steps = [after - before for before, after in itertools.pairwise(ordered)]
    step = min(steps, default=1)
    if 2 * steps.count(step) < len(steps) or any(each % step for each in steps):
        return None
    pairs = zip(ordered, steps, strict=False)
    return [first + step for first, each in pairs if each != step]


def frame_size(path: Place) -> tuple[int, int]:
    """Returns (h, w) of an 8-bit RGB image by a look at the beginning and the end of its file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is of another kind, or truncated.
    """
    if isinstance(path, pathlib.Path):
        check_regular(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.name.lower().endswith(".png"):
        return _jpeg_size(path)
    with path.open("rb") as file:
        head = file.read(_PNG_HEADER)
        # The directory of a zip file records the end of each member; reading it costs the whole.
        if isinstance(path, pathlib.Path):
            file.seek(max(path.stat().st_size - 256, 0))
            if head[:4] == PNG_SIGNATURE[:4] and b"IEND" not in file.read():
                raise ValueError(f"{path} is truncated: its end is missing")
    return _check_png_header(path, head)


def _jpeg_size(path: Place) -> tuple[int, int]:
    """(h, w) of an RGB JPEG as displayed."""
    try:
        with path.open("rb") as file, Image.open(file) as image:
            mode, size, format_ = image.mode, image.size[::-1], image.format
            turned = image.getexif().get(ORIENTATION, 1) > 4
    except Exception as error:  # as in `video.images.decode_picture`
        raise ValueError(f"{path} is damaged, or not a JPEG: {error}") from error
    if mode != "RGB" or format_ not in ("JPEG", "MPO"):
        raise ValueError(f"{path} is {format_} of mode {mode}, expected JPEG of RGB: convert it")
    return size[::-1] if turned else size


def _check_png_header(path: Place, head: bytes) -> tuple[int, int]:
    """(h, w) by the header of an 8-bit RGB PNG; raises ValueError for any other file."""
    if head[:8] != PNG_SIGNATURE or len(head) < _PNG_HEADER:
        raise ValueError(f"{path} is not a PNG file")
    depth, color = head[24:26]
    if (depth, color) != (8, 2):
        kind = f"{depth}-bit {_COLORS.get(color, 'unknown')}"
        raise ValueError(f"{path} is a PNG file of {kind}, expected 8-bit RGB: convert it")
    return int.from_bytes(head[20:24]), int.from_bytes(head[16:20])


def read_frame(path: Place) -> UInt8[np.ndarray, "h w 3"]:
    """Reads an 8-bit RGB image.

    Returns:
        (h, w, 3) uint8.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is of another kind, or damaged.
    """
    if isinstance(path, pathlib.Path):
        check_regular(path)
    try:
        data = path.read_bytes()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if path.name.lower().endswith(".png"):
        _check_png_header(path, data[:_PNG_HEADER])
    pixels = decode_image(data, path)
    if pixels.dtype != np.uint8:
        raise ValueError(f"{path} has 16 bits per channel, expected 8: convert it")
    return pixels


def decode_png(data: bytes, path: Place, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an 8-bit RGB PNG file, if its header says the size that is expected.

    Args:
        data: of the file.
        path: of the file, for messages.
        size: (h, w).

    Raises:
        ValueError: the file is of another kind or size, or damaged.
    """
    found = _check_png_header(path, data[:_PNG_HEADER])
    if found != size:
        raise ValueError(f"{path} is {found[0]}x{found[1]}, expected {size[0]}x{size[1]}")
    return decode_image(data, path)


class Frames(Protocol):
    """Consecutive frames in files."""

    def check_files(self) -> tuple[int, int, int]:
        """Returns (t, h, w) after a quick look at every file."""

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Yields each frame, RGB."""


@dataclasses.dataclass(frozen=True)
class ImageFrames:
    """Frames of one image file each."""

    paths: Sequence[Place]

    def check_files(self) -> tuple[int, int, int]:
        """Returns (t, h, w) by the headers of all files.

        Raises:
            FileNotFoundError: a frame is missing.
            ValueError: a file is refused by `frame_size`, or the sizes differ.
        """
        first = frame_size(self.paths[0])
        for path in self.paths:
            size = frame_size(path)
            if size != first:
                raise ValueError(
                    f"{path} is {size[0]}x{size[1]}, but its clip began with {first[0]}x{first[1]}"
                )
        return len(self.paths), *first

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        return map(read_frame, self.paths)


@dataclasses.dataclass(frozen=True)
class VideoFrames:
    """Frames of a video file, in 8 bits."""

    path: pathlib.Path

    def check_files(self) -> tuple[int, int, int]:
        """Returns (t, h, w): packets are counted, and only the first frame is decoded.

        Raises:
            FileNotFoundError: the file does not exist.
            InputError: PyAV is not installed, or the file is no video or has no frame.
        """
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file {self.path}")
        video = VideoFile(self.path)
        return video.count_packets(), *video.info().size

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Yields each frame, RGB; raises InputError if one is damaged."""
        for frame in VideoFile(self.path).frames(TimeRange(), _refuse):
            yield to_8_bits(frame.pixels)


def _refuse(line: str) -> None:
    """Turns a warning of the reader into an error."""
    raise InputError(line.removeprefix("warning: "))


@dataclasses.dataclass(frozen=True)
class ClipFiles:
    """The files of a clip.

    Attributes:
        name: of the clip.
        gt: target frames; rows at the bottom and columns at the right are cropped to a multiple of
            the scale.
        lq: the same frames at low resolution; None: made from gt, or gt itself.
    """

    name: str
    gt: Frames
    lq: Frames | None = None

    def check_files(self, scale: int) -> tuple[int, int, int]:
        """Returns (t, H, W) of the cropped gt after a quick look at every file.

        Raises:
            FileNotFoundError: a frame is missing.
            ValueError: a file is refused, or gt and lq do not match in length or size.
        """
        length, *size = self.gt.check_files()
        small = [side // scale for side in size]
        if self.lq is not None:
            found = self.lq.check_files()
            if found != (length, *small):
                raise ValueError(
                    f"clip {self.name}: gt has {length} frames of {size[0]}x{size[1]}; at scale "
                    f"{scale} lq must have {length} of {small[0]}x{small[1]}, not {found[0]} of "
                    f"{found[1]}x{found[2]}"
                )
        if not all(small):
            raise ValueError(f"clip {self.name} is {size[0]}x{size[1]}: too small for x{scale}")
        return length, small[0] * scale, small[1] * scale

    def frames(self, scale: int, degradation: str) -> Iterator[dict[str, np.ndarray]]:
        """Reads the frames; where no lq is given, `degrade` makes it from gt.

        Args:
            scale: H/h.
            degradation: "bicubic", "bd", "none" (no lq is made), or the name of a given lq's.

        Yields:
            For each frame "gt" (H, W, 3) and "lq" (h, w, 3), uint8.
        """
        if degradation == "none":
            yield from ({"gt": gt} for gt in self.gt)
            return
        made = ((gt, None) for gt in self.gt)
        for gt, lq in made if self.lq is None else zip(self.gt, self.lq, strict=True):
            height, width = (side // scale * scale for side in gt.shape[:2])
            gt = gt[:height, :width]
            yield {"gt": gt, "lq": degrade(gt, degradation, scale) if lq is None else lq}


def check_degradation(kind: str, scale: int) -> None:
    """Raises ValueError unless `degrade` defines a degradation; "none" means that lq is gt."""
    if kind not in ("bicubic", "bd", "none"):
        raise ValueError(
            f"unknown degradation {kind!r}; expected 'bicubic' or 'bd', or 'none' at scale 1"
        )
    if kind == "none" and scale != 1:
        raise ValueError(f"the degradation 'none' needs scale 1, got {scale}")
    if kind == "bd" and scale != 4:
        raise ValueError(f"the degradation 'bd' needs scale 4, got {scale}")


def degrade(
    gt: UInt8[np.ndarray, "*b H W 3"], kind: str, scale: int
) -> UInt8[np.ndarray, "*b h w 3"]:
    """Makes lq (..., h, w, 3) uint8 from gt (..., H, W, 3) uint8 by "bicubic" or "bd"."""
    check_degradation(kind, scale)
    if kind == "bd":
        return degradations.blur_downsample(gt, "bd")
    return degradations.imresize(gt, 1 / scale)
