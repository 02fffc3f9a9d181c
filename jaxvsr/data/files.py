"""Clips as folders of PNG files, on the disk or inside zip files, checked before they are read."""

import dataclasses
import io
import os
import pathlib
import re
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from jaxvsr.data import degradations

Place = Any  # pathlib.Path or zipfile.Path, which share what is used here but no type

_COLOURS = {0: "grey", 2: "RGB", 3: "colour-mapped", 4: "grey with alpha", 6: "RGB with alpha"}


def find_folder(root: str | os.PathLike, *places: str) -> Place:
    """The first of some places under root that is a folder, there or in a zip file there.

    Args:
        root: folder that the user filled.
        places: relative paths, in order of preference.

    Returns:
        Its path.

    Raises:
        FileNotFoundError: none is; says what there is instead, and where one would be.
        ValueError: a zip file is damaged.
    """
    root = pathlib.Path(root)
    bases: list[Place] = [root, *map(_open, sorted(root.glob("*.zip")))]
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


def _open(path: pathlib.Path) -> zipfile.Path:
    try:
        return zipfile.Path(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged, or not the whole file: {error}") from error


def read_list(path: Place, pattern: str, example: str) -> list[str]:
    """Reads a list of clips, a name a line.

    Args:
        path: of the text file.
        pattern: what a whole name matches: nothing that could lead out of the data's folder.
        example: of a name, for the message.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a line is no name, a name is there twice, or there are none.
    """
    names = path.read_text().split()
    if not names:
        raise ValueError(f"{path} names no clips")
    for name in names:
        if not re.fullmatch(pattern, name):
            raise ValueError(f"{path} names {name!r}, expected names such as {example}")
    if len(set(names)) < len(names):
        raise ValueError(f"{path} names clips twice")
    return names


def numbered(folder: Place, suffix: str = ".png") -> list[Place]:
    """The frames of a folder, in the order of the numbers that their names end with.

    Raises:
        ValueError: there are none, a name ends with no number, or a number is left out or there
            twice.
    """
    frames = {}
    for path in folder.iterdir():
        if path.name.lower().endswith(suffix):
            number = re.search(r"(\d+)$", path.name[: -len(suffix)])
            if not number:
                raise ValueError(f"{path} has no number at the end of its name")
            if int(number[1]) in frames:
                raise ValueError(f"{folder} has two frames {int(number[1])}")
            frames[int(number[1])] = path
    if not frames:
        raise ValueError(f"expected frames *{suffix} in {folder}, found none")
    first, last = min(frames), max(frames)
    missing = sorted(set(range(first, last)) - frames.keys())
    if missing:
        raise ValueError(f"{folder} has frames {first} to {last}, but no frame {missing[0]}")
    return [frames[number] for number in sorted(frames)]


def png_size(path: Place) -> tuple[int, int]:
    """(h, w) of a PNG file of 8-bit RGB, of which only both ends are read.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is another kind of file, or cut short.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with path.open("rb") as file:
        head = file.read(33)
        # Of a file in a zip file the end is known to be there, but costs reading the whole.
        if isinstance(path, pathlib.Path):
            file.seek(max(path.stat().st_size - 256, 0))
            if head[:4] == b"\x89PNG" and b"IEND" not in file.read():
                raise ValueError(f"{path} is cut short: its end is missing")
    return _size(path, head)


def _size(path: Place, head: bytes) -> tuple[int, int]:
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 33:
        raise ValueError(f"{path} is not a PNG file")
    depth, colour = head[24:26]
    # Pillow would cut 16 bits to 8 without a word.
    if (depth, colour) != (8, 2):
        kind = f"{depth}-bit {_COLOURS.get(colour, 'unknown')}"
        raise ValueError(f"{path} is a PNG file of {kind}, expected 8-bit RGB: convert it")
    return int.from_bytes(head[20:24]), int.from_bytes(head[16:20])


def read_png(path: Place) -> np.ndarray:
    """Reads a PNG file of 8-bit RGB.

    Returns:
        (h, w, 3) uint8.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is another kind of file, or damaged.
    """
    try:
        data = path.read_bytes()
        _size(path, data[:33])
        return np.asarray(Image.open(io.BytesIO(data)))
    except (OSError, SyntaxError, zipfile.BadZipFile) as error:  # SyntaxError: Pillow's own
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is damaged: {error}") from error


class Frames(Protocol):
    """Frames in succession that lie in files."""

    def check(self) -> tuple[int, int, int]:
        """(t, h, w), from a look at every file that does not take long; raises as `PngFrames`."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each (h, w, 3) uint8 RGB."""


@dataclasses.dataclass(frozen=True)
class PngFrames:
    """Frames that are a PNG file each."""

    paths: Sequence[Place]

    def check(self) -> tuple[int, int, int]:
        """(t, h, w), from both ends of every file.

        Raises:
            FileNotFoundError: a frame is missing.
            ValueError: a file is not what `png_size` takes, or of another size than the first.
        """
        first = png_size(self.paths[0])
        for path in self.paths:
            size = png_size(path)
            if size != first:
                raise ValueError(
                    f"{path} is {size[0]}x{size[1]}, but its clip began with {first[0]}x{first[1]}"
                )
        return len(self.paths), *first

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(read_png, self.paths)


@dataclasses.dataclass(frozen=True)
class ClipFiles:
    """The files of a clip.

    Attributes:
        name: of the clip.
        gt: its frames. What is over a multiple of the scale, at the bottom and on the right, is
            cut off.
        lq: the same at low resolution; None where it is to be made, or is gt.
    """

    name: str
    gt: Frames
    lq: Frames | None = None

    def check(self, scale: int) -> tuple[int, int, int]:
        """(t, H, W) of gt, cut, without reading the whole.

        Raises:
            FileNotFoundError: a frame is missing.
            ValueError: a file is not what it should be, or gt and lq do not pair.
        """
        length, *size = self.gt.check()
        small = [side // scale for side in size]
        if self.lq is not None:
            found = self.lq.check()
            if found != (length, *small):
                raise ValueError(
                    f"clip {self.name}: gt has {length} frames of {size[0]}x{size[1]}, so that at "
                    f"scale {scale} lq has {length} of {small[0]}x{small[1]}, not {found[0]} of "
                    f"{found[1]}x{found[2]}"
                )
        if not all(small):
            raise ValueError(f"clip {self.name} is {size[0]}x{size[1]}: too small for x{scale}")
        return length, small[0] * scale, small[1] * scale

    def frames(self, scale: int, kind: str) -> Iterator[dict[str, np.ndarray]]:
        """The frames as records want them; `degrade` makes lq of gt where there is none.

        Of the kind "none" there is no lq.
        """
        if kind == "none":
            yield from ({"gt": gt} for gt in self.gt)
            return
        made = ((gt, None) for gt in self.gt)
        for gt, lq in made if self.lq is None else zip(self.gt, self.lq, strict=True):
            height, width = (side // scale * scale for side in gt.shape[:2])
            gt = gt[:height, :width]
            yield {"gt": gt, "lq": degrade(gt, kind, scale) if lq is None else lq}


def check_degradation(kind: str, scale: int) -> None:
    """Raises ValueError if lq cannot be made so; "none" says that it is gt."""
    if kind not in ("bicubic", "bd", "none"):
        raise ValueError(
            f"there is no degradation {kind!r}, only 'bicubic' and 'bd', or 'none' at scale 1"
        )
    if kind == "none" and scale != 1:
        raise ValueError(f"the degradation 'none' is of scale 1, not {scale}")
    if kind == "bd" and scale != 4:
        raise ValueError(f"the degradation 'bd' is defined for scale 4, not {scale}")


def degrade(gt: np.ndarray, kind: str, scale: int) -> np.ndarray:
    """Makes lq (..., h, w, 3) of gt (..., H, W, 3), both uint8, by "bicubic" or "bd"."""
    check_degradation(kind, scale)
    if kind == "bd":
        return degradations.blur_downsample(gt, "bd")
    return degradations.imresize(gt, 1 / scale)
