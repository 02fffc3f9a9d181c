"""REDS, from the folders that its authors distribute."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from jaxvsr.data import records

# The four training clips that the field scores on.
REDS4 = ("000", "011", "015", "020")


# TFDS's own config class is not frozen, and Python does not let a frozen class extend it.
@dataclasses.dataclass(eq=False, kw_only=True)
class RedsConfig(tfds.core.BuilderConfig):
    """Which part of REDS; the defaults are the whole, another name and less make an excerpt.

    Attributes:
        num_train: of the training clips 000, 001, ..., at least 21 so that REDS4 is among them.
        num_val: of the validation clips 000, 001, ..., which become 240, 241, ...
        num_frames: of each clip; all must be there.
        size: (H, W) of the frames.
    """

    num_train: int = 240
    num_val: int = 30
    num_frames: int = 100
    size: tuple[int, int] = (720, 1280)


class Builder(records.ClipBuilder):
    """TFDS builder of REDS; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [RedsConfig(name="bicubic", description="Sharp, and bicubic x4.")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download train_sharp, train_sharp_bicubic, val_sharp and val_sharp_bicubic from
    https://seungjunnah.github.io/Datasets/reds.html and unpack them into manual_dir, so that it
    holds {train,val}_sharp/<clip>/<8 digits>.png and
    {train,val}_sharp_bicubic/X4/<clip>/<8 digits>.png, or these below train/ and val/.
    """

    @property
    def layout(self) -> records.Layout:
        return records.Layout(self.builder_config.size)

    def _clips(self, dl_manager: tfds.download.DownloadManager) -> dict[str, records.Clips]:
        config = self.builder_config
        clips = {}
        for part, count, shift in (("train", config.num_train, 0), ("val", config.num_val, 240)):
            gt = _folder(dl_manager.manual_dir, part, f"{part}_sharp")
            lq = _folder(dl_manager.manual_dir, part, f"{part}_sharp_bicubic/X4")
            for number in range(count):
                name = f"{number:03d}"
                # Now, and not after an hour.
                folders = records.find_folder(gt, name), records.find_folder(lq, name)
                clips[f"{number + shift:03d}"] = _frames(*folders, config.num_frames)
        records.check_free_space(
            self.data_dir, len(clips) * config.num_frames * self.layout.frame_bytes
        )
        return {
            "train": [(name, frames) for name, frames in clips.items() if name not in REDS4],
            "reds4": [(name, clips[name]) for name in REDS4],
        }


def _folder(manual_dir: os.PathLike, part: str, name: str) -> pathlib.Path:
    try:
        return records.find_folder(manual_dir, name, f"{part}/{name}")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}\n{Builder.MANUAL_DOWNLOAD_INSTRUCTIONS}") from None


def _frames(gt: pathlib.Path, lq: pathlib.Path, count: int) -> Iterator[dict[str, np.ndarray]]:
    for number in range(count):
        name = f"{number:08d}.png"
        yield {"gt": records.read_png(gt / name), "lq": records.read_png(lq / name)}
