"""The record layout of every data set that jaxvsr trains on, and the TFDS builder that writes it.

A record is one frame, so that a reader fetches any part of any clip. Records lie in ArrayRecord
files in the order of their clips; `info.metadata["clips"][split]` lists `[name, frames, H, W]` of
each clip, so that frame j of clip i is the record at the sum of the earlier clips' frames + j.
"""

import abc
import dataclasses
import errno
import io
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

# TFDS holds more than 1 GB of a split in 1,000 temporary files, each sorted in memory, and picks
# the file by how far the key lies between 0 and 2^128. Keys that count bytes on that range put
# 2^40/1000 bytes, a gigabyte, into each; keys 0, 1, 2, ... would put the whole split into one.
_KEY_UNIT = 2**128 // 2**40

Frame = Mapping[str, np.ndarray]
Clips = Iterable[tuple[str, Iterable[Frame]]]


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the records of a data set have in common.

    Attributes:
        size: (H, W) of gt in pixels; None where it differs from clip to clip.
        scale: H/h = W/w, gt against lq.
        degradation: how lq was made from gt, such as "bicubic".
        flow: whether the true flow is known.
    """

    size: tuple[int | None, int | None] = (None, None)
    scale: int = 4
    degradation: str = "bicubic"
    flow: bool = False

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame, uncompressed, where size is known."""
        height, width = (side or 0 for side in self.size)
        small = (height // self.scale) * (width // self.scale)
        return 3 * height * width + small * (3 + 16 * self.flow)


def features(layout: Layout) -> tfds.features.FeaturesDict:
    """The features of a record.

    Args:
        layout: of the data set.

    Returns:
        "gt" (H, W, 3) uint8; "lq" (h, w, 3) uint8; "key" text, "<clip>/<frame, 8 digits from 0>";
        and with flow "flow_forward" and "flow_backward" (h, w, 2) float32: the displacement (dx,
        dy), in low-resolution pixels, of the surface at each low-resolution pixel's centre to where
        it is in the previous (next) frame; zeros in the first (last) frame of a clip.
    """
    small = tuple(side and side // layout.scale for side in layout.size)
    spec = {
        "gt": _raw((*layout.size, 3), np.uint8),
        "lq": _raw((*small, 3), np.uint8),
        "key": tfds.features.Text(),
    }
    if layout.flow:
        spec |= {name: _raw((*small, 2), np.float32) for name in ("flow_forward", "flow_backward")}
    return tfds.features.FeaturesDict(spec)


def _raw(shape: tuple[int | None, ...], dtype: type) -> tfds.features.Tensor:
    # Raw bytes: left to itself TFDS stores each uint8 as a 64-bit integer.
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes")


def examples(clips: Clips, layout: Layout, index: list) -> Iterator[tuple[int, dict[str, Any]]]:
    """Turns clips into keyed examples for TFDS, checking them on the way.

    Args:
        clips: (name, frames); a frame has the features of `features`, but "key".
        layout: of the data set.
        index: receives [name, frames, H, W] of each clip, in order.

    Yields:
        (increasing integer, example).

    Raises:
        ValueError: there are no clips, a clip has no frames, or a frame's features, dtypes or sizes
          are not what the layout and the clip's first frame say.
    """
    written = 0
    for name, frames in clips:
        clip = None
        for number, frame in enumerate(frames):
            key = f"{name}/{number:08d}"
            _check(key, frame, layout, clip)
            if clip is None:
                clip = [name, 0, *frame["gt"].shape[:2]]
                index.append(clip)
            clip[1] += 1  # before the yield: a reader may take no more than this one
            yield written * _KEY_UNIT, {**frame, "key": key}
            written += sum(array.nbytes for array in frame.values())
        if clip is None:
            raise ValueError(f"clip {name} has no frames")
    if not index:
        raise ValueError("there are no clips")


def _check(key: str, frame: Frame, layout: Layout, clip: list | None) -> None:
    """Raises ValueError unless a frame fits the layout and its clip."""
    wanted: dict[str, np.dtype] = {name: np.dtype(np.uint8) for name in ("gt", "lq")}
    if layout.flow:
        wanted |= {name: np.dtype(np.float32) for name in ("flow_forward", "flow_backward")}
    found = {name: array.dtype for name, array in frame.items()}
    if found != wanted:
        raise ValueError(f"{key}: expected {wanted}, got {found}")
    height, width = frame["gt"].shape[:2]
    fixed = clip[2:] if clip is not None else layout.size
    if any(want not in (None, got) for want, got in zip(fixed, (height, width), strict=True)):
        source = "the data set's frames are" if clip is None else "its clip began with"
        raise ValueError(f"{key} is {height}x{width}, but {source} {fixed[0]}x{fixed[1]}")
    small = (height // layout.scale, width // layout.scale)
    shapes = {"gt": (small[0] * layout.scale, small[1] * layout.scale, 3), "lq": (*small, 3)}
    for name, array in frame.items():
        shape = shapes.get(name, (*small, 2))
        if array.shape != shape:
            raise ValueError(
                f"{key}: {name} has shape {array.shape}, expected {shape} as gt is {layout.scale} "
                f"times lq and gt has shape {frame['gt'].shape}"
            )


def check_free_space(directory: str | os.PathLike, needed: int) -> None:
    """Raises unless a data set fits on the disk.

    Args:
        directory: an existing one, where the data set is to be.
        needed: bytes.

    Raises:
        OSError: there is less room than that.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"the data set needs about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; "
            "free some, or choose another --data_dir",
            os.fspath(directory),
        )


def find_folder(root: str | os.PathLike, *places: str) -> pathlib.Path:
    """The first of some places under root that is a folder.

    Args:
        root: folder that the user filled.
        places: relative paths, in order of preference.

    Returns:
        Its path.

    Raises:
        FileNotFoundError: none is; says what there is instead.
    """
    root = pathlib.Path(root)
    for place in places:
        if (root / place).is_dir():
            return root / place
    found = sorted(path.name for path in root.iterdir()) if root.is_dir() else "no such folder"
    raise FileNotFoundError(f"expected a folder {' or '.join(places)} in {root}, found {found}")


def read_png(path: str | os.PathLike) -> np.ndarray:
    """Reads a PNG file of 8-bit RGB.

    Args:
        path: of the file.

    Returns:
        (h, w, 3) uint8.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is another kind of file, or damaged.
    """
    data = pathlib.Path(path).read_bytes()
    # Depth 8 and colour type 2 in the header; Pillow would cut 16 bits to 8 without a word.
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[24:26] != b"\x08\x02":
        raise ValueError(f"{path} is not a PNG file of 8-bit RGB")
    try:
        return np.asarray(Image.open(io.BytesIO(data)))
    except (OSError, SyntaxError) as error:  # Pillow's own for damaged PNG files
        raise ValueError(f"{path} is damaged: {error}") from error


class ClipBuilder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]
):
    """A TFDS builder of clips. A concrete one defines VERSION, `layout` and `_clips`.

    Description, citation and tags are read from README.md, CITATIONS.bib and TAGS.txt beside it.
    """

    # Nothing is downloaded. TFDS's own look-up needs a package that it does not install.
    url_infos = None

    def __init__(self, *, file_format: str | None = None, **kwargs: Any):
        super().__init__(file_format=file_format or "array_record", **kwargs)

    @property
    def layout(self) -> Layout:
        """What the records have in common."""
        return Layout()

    @abc.abstractmethod
    def _clips(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Clips]:
        """The clips of each split, to be iterated once, in order."""

    def _info(self) -> tfds.core.DatasetInfo:
        layout = self.layout
        return self.dataset_info_from_configs(
            features=features(layout),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                scale=layout.scale, degradation=layout.degradation, clips={}
            ),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        if self.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
            raise ValueError(f"clips need the format array_record, not {self.info.file_format}")
        splits = self._clips(dl_manager)
        index: dict[str, list] = {split: [] for split in splits}
        self.info.metadata["clips"] = index
        return {
            split: self._generate_examples(clips, index[split]) for split, clips in splits.items()
        }

    def _generate_examples(self, clips: Clips, index: list) -> Iterator[tuple[int, dict[str, Any]]]:
        return examples(clips, self.layout, index)
