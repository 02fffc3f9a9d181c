"""The record layout of all data sets, and the base class of the TFDS builders that write it.

A record is a tile: a square of consecutive frames in gt and lq, encoded by `tile_codec`. Records
lie in ArrayRecord files, ordered by clip, group of frames, row of tiles, and column. The data set's
`info.metadata` holds:
- "scale", "degradation", "side" (of a tile, gt pixels) and "group" (frames of a tile);
- "clips": {TFDS split: [[name, frames, H, W] for each clip]};
- "views", splits that are parts of those: {split: {TFDS split: [names]}};
- "kinds" of clips, if any: {TFDS split: {name: kind}};
- "part", of a part alone: {"of": data set, "clips": {split: number of clips of the whole}}.
"""

import abc
import contextlib
import dataclasses
import errno
import itertools
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils.tqdm_utils import TqdmStream

from jaxvsr.console import counted
from jaxvsr.data import files, parts, tile_codec
from jaxvsr.locks import locked

# TFDS holds more than 1 GB of a split in 1,000 temporary files, each sorted in memory, and picks
# the file by how far the key lies between 0 and 2^128. Keys that count bytes on that range put
# 2^40/1000 bytes, a gigabyte, into each; keys 0, 1, 2, ... would put the whole split into one.
KEY_UNIT = 2**128 // 2**40

FLOWS = ("flow_forward", "flow_backward")
VISIBLE = ("visible_forward", "visible_backward")

Frame = Mapping[str, np.ndarray]
Clips = Iterable[tuple[str, Iterable[Frame]]]
Views = Mapping[str, Mapping[str, list[str]]]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Properties that the records of a data set share.

    Attributes:
        size: (H, W) of gt in pixels; None where it differs between clips.
        scale: H/h = W/w.
        degradation: that made lq from gt, such as "bicubic"; "none": lq is gt and not stored.
        flow: whether the true flow and its visibility masks are stored.
        group: frames per tile; the last tiles of a clip may have fewer.
    """

    size: tuple[int | None, int | None] = (None, None)
    scale: int = 4
    degradation: str = "bicubic"
    flow: bool = False
    group: int = 4

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the stored images of a frame."""
        return ("gt",) if self.degradation == "none" else ("gt", "lq")

    @property
    def side(self) -> int:
        """Height and width of a tile, gt pixels: 64, or the next smaller multiple of the scale."""
        return 64 // self.scale * self.scale

    @property
    def frame_bytes(self) -> int:
        """Uncompressed bytes of a frame, if its size is known."""
        height, width = (side or 0 for side in self.size)
        small = (height // self.scale) * (width // self.scale)
        return 3 * height * width + small * (3 * (len(self.images) - 1) + 18 * self.flow)


def features(layout: Layout) -> tfds.features.FeaturesDict:
    """The features of a record.

    Args:
        layout: of the data set.

    Returns:
        - "gt" (3, t, H, W) uint8: a tile, encoded by `tile_codec`;
        - "lq" (3, t, h, w) uint8, likewise, unless lq is gt;
        - "key", text: "<clip>/<first frame, 8 digits from 0>/<tile of the frame, from 0>";
        and with flow
        - "flow_forward" ("flow_backward") (t, h, w, 2) float32: displacement (dx, dy), in
          low-resolution pixels, of the surface at each low-resolution pixel center to its position
          in the previous (next) frame;
        - "visible_forward" ("visible_backward") (t, h, w) uint8: 1 where the surface is visible
          there. All are zeros in the first (last) frame of a clip.
    """
    spec = {name: _raw((3, None, None, None), np.uint8) for name in layout.images}
    spec |= {"key": tfds.features.Text()}
    if layout.flow:
        spec |= {name: _raw((None, None, None, 2), np.float32) for name in FLOWS}
        spec |= {name: _raw((None, None, None), np.uint8) for name in VISIBLE}
    return tfds.features.FeaturesDict(spec)


def _raw(shape: tuple[int | None, ...], dtype: type) -> tfds.features.Tensor:
    # Raw bytes, since by default TFDS stores each uint8 as a 64-bit integer.
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes")


def examples(clips: Clips, layout: Layout, index: list) -> Iterator[tuple[int, dict[str, Any]]]:
    """Converts clips to keyed examples for TFDS, and checks them.

    Args:
        clips: (name, frames); a frame has "gt" (H, W, 3) and "lq" (h, w, 3) uint8 RGB, and with
            flow both flows (h, w, 2) float32 and both visibility masks (h, w) uint8.
        layout: of the data set.
        index: receives [name, frames, H, W] for each clip, in order.

    Yields:
        (increasing integer, example).

    Raises:
        ValueError: there are no clips, a clip has no frames, two clips have one name, or a frame
          does not match the layout or the clip's first frame.
    """
    written, names = 0, set()
    for name, frames in clips:
        if name in names:
            raise ValueError(f"there are two clips {name}")
        names.add(name)
        start = 0
        for group in _groups(name, frames, layout):
            length, *size = group["gt"].shape[:3]
            tiles = list(_tiles(group, layout))
            for number, tile in enumerate(tiles):
                if tile is tiles[-1]:
                    # Before the yield, as the consumer may stop after this tile.
                    if not start:
                        index.append([name, 0, *size])
                    index[-1][1] += length
                yield written * KEY_UNIT, {**tile, "key": f"{name}/{start:08d}/{number}"}
                written += sum(array.nbytes for array in tile.values())
            start += length
        if not start:
            raise ValueError(f"clip {name} has no frames")
    if not names:
        raise ValueError("there are no clips")


def _tiles(group: Frame, layout: Layout) -> Iterator[dict[str, np.ndarray]]:
    """Splits stacked frames into tiles and encodes them."""
    low = layout.side // layout.scale
    split = (
        tile_codec.split_into_tiles(x, layout.side if name == "gt" else low)
        for name, x in group.items()
    )
    for tiles in zip(*split, strict=True):
        named = zip(group, tiles, strict=True)
        yield {name: tile_codec.encode(x) if name in layout.images else x for name, x in named}


def _groups(name: str, frames: Iterable[Frame], layout: Layout) -> Iterator[dict[str, np.ndarray]]:
    """Checks consecutive frames and stacks them in groups."""
    size = None
    numbered = enumerate(frames)
    while group := list(itertools.islice(numbered, layout.group)):
        for number, frame in group:
            _check_frame(f"{name}/{number:08d}", frame, layout, size)
            size = frame["gt"].shape[:2]
        yield {key: np.stack([frame[key] for _, frame in group]) for key in group[0][1]}


def _check_frame(key: str, frame: Frame, layout: Layout, size: tuple[int, ...] | None) -> None:
    """Raises ValueError unless a frame matches the layout and the size of its clip."""
    wanted: dict[str, np.dtype] = {name: np.dtype(np.uint8) for name in layout.images}
    if layout.flow:
        wanted |= {name: np.dtype(np.float32) for name in FLOWS}
        wanted |= {name: np.dtype(np.uint8) for name in VISIBLE}
    found = {name: array.dtype for name, array in frame.items()}
    if found != wanted:
        raise ValueError(f"{key}: expected {wanted}, got {found}")
    height, width = frame["gt"].shape[:2]
    fixed = size or layout.size
    if any(want not in (None, got) for want, got in zip(fixed, (height, width), strict=True)):
        source = "its clip began with" if size else "the data set's frames are"
        raise ValueError(f"{key} is {height}x{width}, but {source} {fixed[0]}x{fixed[1]}")
    small = (height // layout.scale, width // layout.scale)
    shapes: dict[str, tuple[int, ...]]
    shapes = {"gt": (small[0] * layout.scale, small[1] * layout.scale, 3), "lq": (*small, 3)}
    shapes |= dict.fromkeys(FLOWS, (*small, 2)) | dict.fromkeys(VISIBLE, small)
    for name, array in frame.items():
        shape = shapes[name]
        if array.shape != shape:
            raise ValueError(
                f"{key}: {name} has shape {array.shape}, expected {shape} as gt is {layout.scale} "
                f"times lq and gt has shape {frame['gt'].shape}"
            )


def check_free_space(directory: str | os.PathLike, needed: int) -> None:
    """Checks that a data set fits on the disk.

    Args:
        directory: existing folder that will hold the data set.
        needed: bytes.

    Raises:
        OSError: less space is free.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"the data set needs about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; "
            "free some space, or choose another --data_dir",
            os.fspath(directory),
        )


class ClipBuilder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]
):
    """Base class of TFDS builders of clips; subclasses define VERSION, `layout` and `_clips`.

    Description, citation and tags are read from README.md, CITATIONS.bib and TAGS.txt beside the
    subclass.
    """

    # Nothing is downloaded. TFDS's lookup of checksums needs a package that it does not install.
    url_infos = None
    num_frames = 0  # of all clips; 0: unknown

    def __init__(self, *, file_format: str | None = None, config: Any = None, **kwargs: Any):
        name = getattr(config, "name", config) or ""
        if not re.fullmatch(r"\w[\w.+-]*|", str(name)):  # the name of a folder
            raise ValueError(
                f"the name of a config must have letters, digits and _ . + - alone; got {name!r}"
            )
        super().__init__(file_format=file_format or "array_record", config=config, **kwargs)

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Builds the data set unless it exists; raises InputError if another process builds it."""
        path = pathlib.Path(self.data_dir)
        if path.exists():
            return
        try:
            with locked(path.with_name(f".{path.name}.lock"), f"preparing {self.info.full_name}"):
                for killed in path.parent.glob(f"incomplete.*_{path.name}"):  # builds
                    shutil.rmtree(killed)
                super().download_and_prepare(**kwargs)
        finally:
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # nothing was built, and no other version is there

    @property
    def layout(self) -> Layout:
        """Properties that all records share."""
        return Layout()

    @abc.abstractmethod
    def _clips(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Clips]:
        """Returns the clips of each split, which are iterated once, in order."""

    def _views(self, dl_manager: tfds.download.DownloadManager) -> Views:
        """Returns splits that are parts of the splits of `_clips`."""
        return {}

    def _kinds(self) -> Mapping[str, Mapping[str, str]]:
        """Returns the kinds of clips, {split: {name: kind}}; scores are also reported by kind."""
        return {}

    def _select(
        self,
        lists: parts.Lists,
        *,
        of_each: bool = True,
        counts: Mapping[str, int] | None = None,
    ) -> dict[str, list[str]]:
        """Returns the names of the clips to build.

        Args:
            lists: all names in each split of `_clips`.
            of_each: as in `parts.select`.
            counts: clips in each split of the whole, if the user need not have all of them.
        """
        config = self.builder_config
        if config.whole:
            counts = dict(counts or {split: len(names) for split, names in lists.items()})
            self.info.metadata["part"] = {"of": f"{self.name}/{config.whole}", "clips": counts}
        return parts.select(lists, config.clips, of_each=of_each)

    def _from_files(self, splits: Mapping[str, Sequence[files.ClipFiles]]) -> dict[str, Clips]:
        """Returns the clips of files, after a check of all files and of the disk space."""
        layout = self.layout
        total = sum(map(len, splits.values()))
        _say(f"checking the files of {total} clips")
        needed = self.num_frames = 0
        for clip in counted(itertools.chain(*splits.values()), total, "clips checked", say=_say):
            length, *size = clip.check_files(layout.scale)
            self.num_frames += length
            if any(want not in (None, got) for want, got in zip(layout.size, size, strict=True)):
                raise ValueError(
                    f"clip {clip.name} is {size[0]}x{size[1]}, but the data set's frames are "
                    f"{layout.size[0]}x{layout.size[1]}"
                )
            one = dataclasses.replace(layout, size=(size[0], size[1]))
            needed += length * one.frame_bytes
        check_free_space(self.data_dir, needed)
        _say(f"{self.num_frames} frames, {needed / 1e9:.1f} GB before compression")
        return {
            split: [(clip.name, clip.frames(layout.scale, layout.degradation)) for clip in clips]
            for split, clips in splits.items()
        }

    def _info(self) -> tfds.core.DatasetInfo:
        layout = self.layout
        info = self.dataset_info_from_configs(
            features=features(layout),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                scale=layout.scale,
                degradation=layout.degradation,
                side=layout.side,
                group=layout.group,
                clips={},
                views={},
                kinds={},
            ),
        )
        # TFDS would look for the data set in its authors' bucket, and leave a temporary folder.
        info.initialize_from_bucket = lambda: None
        return info

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        if self.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
            raise ValueError(f"file_format must be array_record, got {self.info.file_format}")
        try:
            splits = self._clips(dl_manager)
            views = self._views(dl_manager)
            self.info.metadata["kinds"] = self._kinds()
        except FileNotFoundError as error:
            instructions = self.MANUAL_DOWNLOAD_INSTRUCTIONS or ""
            raise FileNotFoundError(f"{error}\n{instructions}".rstrip()) from None
        metadata = self.info.metadata
        if part := metadata.get("part"):
            part["clips"] |= {view: sum(map(len, lists.values())) for view, lists in views.items()}
            stored = {split: {name for name, _ in clips} for split, clips in splits.items()}
            views = parts.narrow(views, stored)
        metadata["views"] = views
        index: dict[str, list] = {split: [] for split in splits}
        metadata["clips"] = index
        ticks = counted(itertools.count(), self.num_frames, "frames", say=_say)
        return {
            split: self._generate_examples(_ticking(clips, ticks), index[split])
            for split, clips in splits.items()
        }

    def _generate_examples(self, clips: Clips, index: list) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from examples(clips, self.layout, index)
        # Which TFDS does next; it takes about as long as reading.
        _say(f"sorting and compressing the tiles of {sum(clip[1] for clip in index)} frames")


def _ticking(clips: Clips, ticks: Iterator[int]) -> Clips:
    """Passes clips through, with a tick before each frame."""

    def ticked(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            next(ticks)
            yield frame

    return ((name, ticked(frames)) for name, frames in clips)


def _say(line: str) -> None:
    """Prints a line between TFDS's progress bars."""
    TqdmStream().write(f"{line}\n")
    sys.stdout.flush()
