"""Random access to clips of paired frames."""

import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from tensorflow_datasets.core import read_only_builder
from tensorflow_datasets.proto import tf_example_pb2

from jaxvsr.data import parts, tile_codec
from jaxvsr.data.records import FLOWS, VISIBLE
from jaxvsr.errors import InputError


@dataclasses.dataclass(frozen=True)
class Clip:
    """Properties of a clip, known before it is read.

    Attributes:
        name: unique in its split.
        length: number of frames.
        height, width: of a target frame, pixels.
        kind: of clip, such as "tripod"; "" where the data set has no kinds.
    """

    name: str
    length: int
    height: int
    width: int
    kind: str = ""


class ClipSource(Protocol):
    """Random access to the clips of a split of a data set.

    Attributes:
        clips: of the split.
        scale: of the targets over the inputs.
        degradation: name of the degradation that made the inputs.
        has_flow: whether the true flow is stored.
        part: which data set the clips are a part of, for tables of scores; "": of none.
    """

    clips: tuple[Clip, ...]
    scale: int
    degradation: str
    has_flow: bool
    part: str

    def read(
        self,
        clip: int,
        frames: Sequence[int],
        top: int = 0,
        left: int = 0,
        size: tuple[int, int] | None = None,
    ) -> dict[str, UInt8[np.ndarray, "t _ _ 3"]]:
        """Reads a window of frames of a clip, as `TFDSClips.read`."""

    def read_flow(
        self,
        clip: int,
        frames: Sequence[int] | None = None,
        top: int = 0,
        left: int = 0,
        size: tuple[int, int] | None = None,
    ) -> dict[str, np.ndarray]:
        """Reads the true flow of a window of frames of a clip, as `TFDSClips.read_flow`."""


class TFDSClips:
    """The clips of a split of a data set that one of tfds_builders/ prepared.

    Attributes:
        clips: in the order of the records, or of the split's list.
        scale: of the targets over the inputs.
        degradation: name of the degradation that made the inputs.
        has_flow: whether the true flow is stored.
        part: which data set the clips are a part of, such as "part of reds/sharp_bicubic (4
            clips)"; "" for whole data sets.
    """

    def __init__(self, dataset: str, split: str, data_dir: str = "") -> None:
        """Opens the data set, without reading frames.

        Args:
            dataset: "name" or "name/config".
            split: of the data set.
            data_dir: folder of TFDS data sets; "": the default of TFDS.

        Raises:
            InputError: the data set is not prepared or damaged, or the split is unknown or empty.
        """
        command = parts.command_for(dataset, data_dir)
        data_dir = data_dir or tfds.core.constants.DATA_DIR
        folder = pathlib.Path(data_dir, dataset)
        self._damaged = (
            f"the data set {dataset!r} is damaged: remove the folder {folder}, then prepare it "
            f"again: {command}"
        )
        with self._whole():
            self._open(dataset, split, data_dir, command)

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Turns any error about the files into an InputError that says how to make them again."""
        try:
            yield
        except InputError:
            raise
        # TFDS, ArrayRecord, protobuf and JSON each raise their own kinds of errors.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self._damaged} ({type(error).__name__}: {reason})") from error

    def _open(self, dataset: str, split: str, data_dir: str, command: str) -> None:
        """See `__init__`; the command prepares the data set."""
        unprepared = (
            f"the data set {dataset!r} is not prepared in {data_dir}{_prepared(data_dir)}. Prepare "
            f"it once: {command}"
        )
        if dataset.partition("/")[0] in parts.BY_HAND:
            unprepared += "; docs/data.md says where to download it"
        try:
            builder = read_only_builder.builder_from_files(dataset, data_dir=data_dir)
        except tfds.core.DatasetNotFoundError as error:
            if any(pathlib.Path(data_dir, dataset).glob("[0-9]*/*.array_record-*")):
                raise InputError(f"{self._damaged} (features.json is missing)") from error
            raise InputError(unprepared) from error
        metadata = builder.info.metadata or {}
        if not {"clips", "views"} <= metadata.keys():
            ours = {"gt", "key"} <= builder.info.features.keys()
            missing = f"{self._damaged} (metadata.json is missing or incomplete)"
            raise InputError(missing if ours else unprepared)
        stored, views, kinds = metadata["clips"], metadata["views"], metadata.get("kinds", {})
        features = builder.info.features
        if "flow_forward" in features and "visible_forward" not in features:
            raise InputError(
                f"the data set {dataset!r} in {data_dir} was prepared by an older jaxvsr (version "
                f"{builder.version}). Prepare it again: {command}"
            )
        whole = metadata.get("part", {"of": "", "clips": {}})
        if split not in stored | views:
            empty = split in whole["clips"]
            raise InputError(
                f"data set {dataset!r} has no {'clip of ' if empty else ''}split {split!r}; "
                f"expected one of: {', '.join(stored | views)}"
                + (f", or more --clips of {whole['of']}" if empty else "")
                + ('; name its clips in "val" of --config' if split == "val" else "")
            )
        self.part = f"part of {whole['of']} ({whole['clips'][split]} clips)" if whole["of"] else ""
        self.scale, self.degradation = metadata["scale"], metadata["degradation"]
        self.has_flow = "flow_forward" in features
        self._side, self._group = metadata["side"], metadata["group"]
        listed = views.get(split) or {split: [name for name, *_ in stored[split]]}
        self._records: list = []
        places: list[tuple[Clip, int, int]] = []  # clip, index into _records, first record
        for part, names in listed.items():
            first, found = 0, {}
            for name, length, height, width in stored[part]:
                kind = kinds.get(part, {}).get(name, "")
                clip = Clip(name, length, height, width, kind)
                found[clip.name] = clip, len(self._records), first
                first += self._count(clip)
            places += [found[name] for name in names if name in found]
            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            if found:
                records = builder.as_data_source(part, deserialize_method=raw)
                if len(records) < first:
                    raise ValueError(f"split {part!r} has {len(records)} of {first} records")
                shards = builder.info.splits[part].shard_lengths
                for record in itertools.accumulate(shards[:-1], initial=0):
                    records[record]  # a shard that is missing or cut has no first record, either
                self._records.append(records)
        if len(places) < max(1, sum(map(len, listed.values()))):
            raise InputError(
                f"the split {split!r} of the data set {dataset!r} in {data_dir} is "
                f"{'in part missing' if places else 'empty'}: prepare it again: {command}"
            )
        self.clips, self._parts, self._first = zip(*places, strict=True)

    def _count(self, clip: Clip) -> int:
        """Number of records of a clip."""
        rows, columns = (
            tile_codec.count_tiles(length, self._side) for length in (clip.height, clip.width)
        )
        return tile_codec.count_tiles(clip.length, self._group) * rows * columns

    def read(
        self,
        clip: int,
        frames: Sequence[int],
        top: int = 0,
        left: int = 0,
        size: tuple[int, int] | None = None,
    ) -> dict[str, UInt8[np.ndarray, "t _ _ 3"]]:
        """Reads a window of frames of a clip; only the tiles that it touches are read.

        Args:
            clip: index into `clips`.
            frames: frame indices.
            top, left: corner of the window, in low-resolution pixels.
            size: (h, w) of the window, in low-resolution pixels; None: up to the bottom right
                corner.

        Returns:
            "gt" (t, H, W, 3) and "lq" (t, h, w, 3), uint8 RGB, with any memory order.

        Raises:
            IndexError: a frame or the window is outside of the clip.
            InputError: a file of the data set is damaged.
        """
        numbers, chosen, (height, width) = self._tiles(clip, frames, top, left, size)
        side = self._side // self.scale
        scales = {"gt": self.scale} | ({} if self.degradation == "none" else {"lq": 1})
        shape = len(numbers) * self._group, numbers.shape[1] * side
        canvas = {
            name: np.empty((3, shape[0], shape[1] * scale, width * scale), np.uint8)
            for name, scale in scales.items()
        }
        # One by one, so that a record is still in the processor's cache when it is copied.
        with self._whole():
            for (i, j, k), number in np.ndenumerate(numbers):
                record = self._record(clip, int(number))
                for name, scale in scales.items():
                    corner = j * side * scale, (k * side - left % side) * scale
                    _put(canvas[name], record, name, i * self._group, *corner)
        out = {}
        for name, scale in scales.items():
            rest = side * scale, top % side * scale, height * scale
            out[name] = tile_codec.decode(canvas[name], *rest)[chosen]
        return {"lq": out["gt"], **out}

    def read_flow(
        self,
        clip: int,
        frames: Sequence[int] | None = None,
        top: int = 0,
        left: int = 0,
        size: tuple[int, int] | None = None,
    ) -> dict[str, np.ndarray]:
        """Reads the true flow of a window of frames of a clip; only if `has_flow`.

        Args:
            clip, top, left, size: as in `read`.
            frames: frame indices; None: all.

        Returns:
            "flow_forward", "flow_backward" (t, h, w, 2) float32 and "visible_forward",
            "visible_backward" (t, h, w) uint8, as `records.features` describes them: to the
            previous and the next frame of the clip.

        Raises:
            IndexError, InputError: as `read`.
        """
        frames = range(self.clips[clip].length) if frames is None else frames
        numbers, chosen, (height, width) = self._tiles(clip, frames, top, left, size)
        side = self._side // self.scale
        tile_shape = self._group, side, side
        shape = [count * length for count, length in zip(numbers.shape, tile_shape, strict=True)]
        canvas = {name: np.empty((*shape, 2), np.float32) for name in FLOWS}
        canvas |= {name: np.empty(shape, np.uint8) for name in VISIBLE}
        with self._whole():
            for place, number in np.ndenumerate(numbers):
                record = self._record(clip, int(number))
                for name, array in canvas.items():
                    (data,) = record[f"{name}/value"].bytes_list.value
                    sides = record[f"{name}/shape"].int64_list.value
                    corner = [i * length for i, length in zip(place, tile_shape, strict=True)]
                    window = tuple(
                        slice(first, first + length)
                        for first, length in zip(corner, sides[:3], strict=True)
                    )
                    array[window] = np.frombuffer(data, array.dtype).reshape(sides)
        y, x = top % side, left % side
        return {
            name: array[chosen][:, y : y + height, x : x + width] for name, array in canvas.items()
        }

    def _tiles(
        self, clip: int, frames: Sequence[int], top: int, left: int, size: tuple[int, int] | None
    ) -> tuple[np.ndarray, np.ndarray | slice, tuple[int, int]]:
        """Finds the tiles that a window touches, given as for `read`.

        Returns:
            The indices of the tiles among the clip's records, by group of frames, row and column;
            the indices of the frames in these groups; and (h, w) of the window.
        """
        known, side = self.clips[clip], self._side // self.scale
        low = known.height // self.scale, known.width // self.scale
        height, width = check_window(known, self.scale, frames, top, left, size)
        rows = np.arange(top // side, tile_codec.count_tiles(top + height, side))
        columns = np.arange(left // side, tile_codec.count_tiles(left + width, side))
        groups, within = np.divmod(frames, self._group)
        groups, place = np.unique(groups, return_inverse=True)
        down, across = tile_codec.count_tiles(low[0], side), tile_codec.count_tiles(low[1], side)
        numbers = (groups[:, None, None] * down + rows[:, None]) * across + columns
        chosen = place * self._group + within
        if (np.diff(chosen) == 1).all():
            return numbers, slice(chosen[0], chosen[-1] + 1), (height, width)  # views, not copies
        return numbers, chosen, (height, width)

    def _record(self, clip: int, number: int) -> Mapping:
        """Reads the features of a record of a clip, by its index among the clip's records."""
        data = self._records[self._parts[clip]][self._first[clip] + number]
        return tf_example_pb2.Example.FromString(data).features.feature


def check_window(
    clip: Clip,
    scale: int,
    frames: Sequence[int],
    top: int,
    left: int,
    size: tuple[int, int] | None,
) -> tuple[int, int]:
    """Returns (h, w) of a window of `ClipSource.read`; raises IndexError if it is outside."""
    low = clip.height // scale, clip.width // scale
    height, width = size or (low[0] - top, low[1] - left)
    inside = 0 <= top < top + height <= low[0] and 0 <= left < left + width <= low[1]
    if not (inside and 0 <= min(frames) <= max(frames) < clip.length):
        raise IndexError(
            f"clip {clip.name} has {clip.length} frames of {low[0]}x{low[1]}, not frames "
            f"{list(frames)} with {height}x{width} from ({top}, {left}) on"
        )
    return height, width


def _prepared(data_dir: str) -> str:
    """Lists the data sets that are prepared in a folder, for a message; "" if there are none."""
    found = pathlib.Path(data_dir).glob("*/*/[0-9]*/metadata.json")
    names = sorted({"/".join(path.parts[-4:-2]) for path in found})
    listed = ", ".join(names[:8] + ["..."] * (len(names) > 8))
    return f" (prepared there: {listed})" if names else ""


def _put(canvas: np.ndarray, record: Mapping, name: str, time: int, top: int, left: int) -> None:
    """Copies a record's tile to a canvas (3, t, h, w); parts beyond its sides are cropped."""
    (data,) = record[f"{name}/value"].bytes_list.value
    tile = np.frombuffer(data, np.uint8).reshape(record[f"{name}/shape"].int64_list.value)
    tile = tile[..., max(-left, 0) : canvas.shape[-1] - left]
    left = max(left, 0)
    _, frames, rows, columns = tile.shape
    canvas[:, time : time + frames, top : top + rows, left : left + columns] = tile
