"""Clips in the LMDB folders of BasicSR, read as they are.

A folder NAME.lmdb holds data.mdb, whose values are PNG files, and meta_info.txt, which has a line
per image: its key with a suffix, its size and its compression level, as in

    000/00000000.png (720,1280,3) 1

Images are decoded whole before they are cropped, which takes longer than reading the tiles of
`TFDSClips`.
"""

import dataclasses
import functools
import itertools
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxvsr.data import files, parts
from jaxvsr.data.sources import Clip, check_window
from jaxvsr.errors import InputError
from jaxvsr.video.images import MAX_PIXELS

SUFFIX = ".lmdb"
MAX_META = 2**28  # bytes of meta_info.txt; Vimeo-90K's has 20 MB
MAX_KEY = 511  # bytes of a key of LMDB
_NAME = r"[\w-][\w.+-]*"  # no part of a path that leads elsewhere
_LINE = re.compile(rf"((?:{_NAME}/)+{_NAME})\.png \(([0-9]{{1,6}}),([0-9]{{1,6}}),3\) [0-9]+")
# Degradations by the names that BasicSR's instructions and common tools give to folders of lq.
_DEGRADATIONS = {"blur_bicubic": "blur_bicubic", "bicubic|BIx4|LR7frames": "bicubic", "BDx4": "bd"}


def is_lmdb(dataset: str) -> bool:
    """Whether a data set of a config is a pair of LMDB folders."""
    return dataset.rstrip("/").endswith(SUFFIX)


@dataclasses.dataclass(frozen=True)
class _Folder:
    """An LMDB folder: for each clip the keys of its frames, and their size (h, w)."""

    path: pathlib.Path
    keys: dict[str, list[str]]
    sizes: dict[str, tuple[int, int]]

    def frame(self, clip: str, frame: int) -> UInt8[np.ndarray, "h w 3"]:
        """Reads a frame; raises InputError if it is missing, damaged or not as described."""
        key, (height, width) = self.keys[clip][frame], self.sizes[clip]
        most = 4 * height * width + 2**16  # bytes of a PNG file: without compression, and more
        try:
            with _environment(str(self.path)).begin(buffers=True) as transaction:
                found = transaction.get(key.encode())
                length = 0 if found is None else len(found)
                # A damaged length is noticed before the bytes are read.
                data = bytes(found) if 0 < length <= most else b""
        except Exception as error:  # of many kinds, where pages are damaged
            raise InputError(f"{self.path} is damaged: {error}") from error
        if found is None:
            raise InputError(f"{self.path} has no image {key!r}, which its meta_info.txt lists")
        if length > most:
            raise InputError(
                f"{self.path} is damaged: image {key!r} of {height}x{width} has {length} bytes"
            )
        place = self.path / f"{key}.png"  # for messages: such a file does not exist
        try:
            return files.decode_png(data, place, self.sizes[clip])
        except ValueError as error:
            raise InputError(str(error)) from error


class LmdbClips:
    """The clips of a pair of LMDB folders, as `TFDSClips`.

    Attributes:
        clips: in the order of meta_info.txt.
        scale: of the targets over the inputs.
        degradation: of the inputs, by the name of their folder; "unknown" for other names.
        has_flow: False.
        part: as `ClipSource`'s, where the split is a list of names; else "".
    """

    has_flow = False

    def __init__(self, dataset: str, split: str) -> None:
        """Opens the folders and checks meta_info.txt, without reading frames.

        Args:
            dataset: "GT.lmdb,LQ.lmdb", two folders.
            split: "all"; "train", all, of REDS without REDS4; "reds4"; or names of clips,
                "000,011".

        Raises:
            InputError: the package lmdb or a folder is missing, a folder is damaged, the folders do
                not fit each other, or the split is unknown.
        """
        self._gt, self._lq = map(_open, _split_pair(dataset))
        names = _split_names(dataset, list(self._gt.keys), split)
        self.scale = _scale(self._gt, self._lq, names)
        found = (
            kind for name, kind in _DEGRADATIONS.items() if re.search(name, self._lq.path.name)
        )
        self.degradation = next(found, "unknown")
        self.part = ""
        if split not in ("all", "train", "reds4"):
            self.part = f"part of {self._gt.path.name} ({len(self._gt.keys)} clips)"
        self.clips = tuple(
            Clip(name, len(self._gt.keys[name]), *self._gt.sizes[name]) for name in names
        )

    def read(
        self,
        clip: int,
        frames: Sequence[int],
        top: int = 0,
        left: int = 0,
        size: tuple[int, int] | None = None,
    ) -> dict[str, UInt8[np.ndarray, "t _ _ 3"]]:
        """Reads a window of frames, as `TFDSClips.read`."""
        known = self.clips[clip]
        height, width = check_window(known, self.scale, frames, top, left, size)
        out = {}
        for name, folder, scale in (("gt", self._gt, self.scale), ("lq", self._lq, 1)):
            rows = slice(top * scale, (top + height) * scale)
            columns = slice(left * scale, (left + width) * scale)
            # Copies, so that the rest of a frame does not stay in memory.
            read = (folder.frame(known.name, frame)[rows, columns].copy() for frame in frames)
            out[name] = np.stack(list(read))
        return out

    def read_flow(self, clip: int, *window: Any, **named: Any) -> dict[str, np.ndarray]:
        """Raises LookupError: LMDB folders hold no flow."""
        raise LookupError(f"clip {self.clips[clip].name} has no flow")


def _split_pair(dataset: str) -> list[pathlib.Path]:
    pair = re.split(rf"(?<={re.escape(SUFFIX)})/*,", dataset)
    if len(pair) != 2:
        raise InputError(
            f"LMDB folders are given as a pair, GT.lmdb,LQ.lmdb: targets and inputs; got {dataset}"
        )
    return [pathlib.Path(folder).expanduser() for folder in pair]


def _open(path: pathlib.Path) -> _Folder:
    """Reads meta_info.txt, and opens the database."""
    if not (path / "data.mdb").is_file():
        raise InputError(f"there is no LMDB folder {path}: it must hold data.mdb and meta_info.txt")
    meta = path / "meta_info.txt"
    try:
        if meta.stat().st_size > MAX_META:
            raise InputError(f"{meta} is larger than {MAX_META // 2**20} MB")
        lines = meta.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{meta} cannot be read: {error}") from error
    keys: dict[str, list[str]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if not match:
            example = "'000/00000000.png (720,1280,3) 1', an RGB image of a clip"
            raise InputError(f"{meta}, line {number}: expected a line such as {example}")
        key, size = match[1], (int(match[2]), int(match[3]))
        clip = re.sub(r"^X\d/", "", key.rpartition("/")[0])  # REDS's lq may be below X4/
        if len(key.encode()) > MAX_KEY:
            raise InputError(f"{meta}, line {number}: a key of more than {MAX_KEY} bytes")
        if not 0 < size[0] * size[1] <= MAX_PIXELS:
            raise InputError(f"{meta}, line {number}: an image of {size[0]}x{size[1]} pixels")
        if sizes.setdefault(clip, size) != size:
            raise InputError(f"{meta}, line {number}: clip {clip} has frames of two sizes")
        keys.setdefault(clip, []).append(key)
    if not keys:
        raise InputError(f"{meta} lists no images")
    for clip, frames in keys.items():
        _check_order(meta, clip, frames)
    entries = _environment(str(path)).stat()["entries"]
    if entries != len(lines):
        raise InputError(
            f"{path} is incomplete: its meta_info.txt lists {len(lines)} images, data.mdb has "
            f"{entries}"
        )
    return _Folder(path, keys, sizes)


def _check_order(meta: pathlib.Path, clip: str, keys: list[str]) -> None:
    """Sorts the keys of a clip by frame index; raises InputError if one is missing or repeated."""
    index = {}
    for key in keys:
        number = re.search(r"[0-9]+$", key)
        if not number or int(number[0]) in index:
            raise InputError(f"{meta}: {key!r} has no frame index at its end, or a repeated one")
        index[int(number[0])] = key
    numbers = sorted(index)
    if gaps := [first + 1 for first, then in itertools.pairwise(numbers) if then != first + 1]:
        raise InputError(f"{meta}: clip {clip} has no frame {gaps[0]}")
    keys[:] = [index[number] for number in numbers]


@functools.cache  # as LMDB must not be opened twice by a process
def _environment(path: str) -> Any:
    """Opens the database of a folder.

    Raises:
        InputError: the package is missing, or the database is damaged.
    """
    try:
        import lmdb
    except ImportError as error:
        raise InputError("LMDB folders need a package: pip install 'jaxvsr[lmdb]'") from error
    try:
        opened = lmdb.open(path, readonly=True, lock=False, create=False, readahead=False)
    except (lmdb.Error, MemoryError, OSError) as error:
        raise InputError(f"{path} is damaged, or not an LMDB folder: {error}") from error
    # LMDB maps the file into memory: reading beyond its end would kill the process.
    size = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
    there = (pathlib.Path(path) / "data.mdb").stat().st_size
    if there < size:
        opened.close()
        raise InputError(f"{path} is truncated: data.mdb has {there} of {size} bytes")
    return opened


def _split_names(dataset: str, names: list[str], split: str) -> list[str]:
    """The clips of a split."""
    is_reds = set(parts.REDS4) < set(names) and all(re.fullmatch(r"[0-9]{3}", x) for x in names)
    if split == "reds4" and is_reds:
        return list(parts.REDS4)
    if split in ("all", "train"):
        left_out = parts.REDS4 if is_reds and split == "train" else ()
        return [name for name in names if name not in left_out]
    wanted = split.split(",")
    if unknown := [name for name in wanted if name not in names]:
        raise InputError(
            f"{dataset} has no split or clip {unknown[0]!r}; expected train, all, "
            f"{'reds4, ' if is_reds else ''}or names of clips, such as {names[0]}"
        )
    return wanted


def _scale(gt: _Folder, lq: _Folder, names: list[str]) -> int:
    """The scale of gt over lq; raises InputError unless all clips fit each other."""
    scales = {}
    for name in names:
        if name not in lq.keys:
            raise InputError(f"clip {name} is in {gt.path}, not in {lq.path}")
        counts = len(gt.keys[name]), len(lq.keys[name])
        if counts[0] != counts[1]:
            raise InputError(
                f"clip {name} has {counts[0]} frames in {gt.path}, {counts[1]} in {lq.path}: "
                "expected targets of all frames"
            )
        (height, width), (low, across) = gt.sizes[name], lq.sizes[name]
        scale = height // low
        if not scale or (low * scale, across * scale) != (height, width):
            raise InputError(
                f"clip {name} is {height}x{width} in {gt.path}, which is no multiple of "
                f"{low}x{across} in {lq.path}"
            )
        scales[scale] = name
    if len(scales) > 1:
        raise InputError(f"{gt.path} has clips of scales {', '.join(map(str, sorted(scales)))}")
    return scale
