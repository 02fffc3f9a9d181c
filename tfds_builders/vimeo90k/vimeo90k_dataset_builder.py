"""Vimeo-90K septuplets, from the folder that its authors distribute."""

import dataclasses
import pathlib
import re
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from jaxvsr.data import degradations, records


# TFDS's own config class is not frozen, and Python does not let a frozen class extend it.
@dataclasses.dataclass(eq=False, kw_only=True)
class Vimeo90kConfig(tfds.core.BuilderConfig):
    """How the frames are.

    Attributes:
        size: (H, W) of the frames.
    """

    size: tuple[int, int] = (256, 448)


class Builder(records.ClipBuilder):
    """TFDS builder of Vimeo-90K; the clips are those that the two list files name."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [Vimeo90kConfig(name="bicubic", description="Bicubic x4, made here.")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download "The original training + test set (82GB)" of the septuplets from
    http://toflow.csail.mit.edu/ and unpack it, so that manual_dir holds
    sequences/<5 digits>/<4 digits>/im1.png..im7.png, sep_trainlist.txt and sep_testlist.txt.
    """

    @property
    def layout(self) -> records.Layout:
        return records.Layout(self.builder_config.size)

    def _clips(self, dl_manager: tfds.download.DownloadManager) -> dict[str, records.Clips]:
        manual_dir = pathlib.Path(dl_manager.manual_dir)
        try:
            sequences = records.find_folder(manual_dir, "sequences")
            names = {
                split: _read_list(manual_dir / f"sep_{split}list.txt")
                for split in ("train", "test")
            }
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}\n{self.MANUAL_DOWNLOAD_INSTRUCTIONS}") from None
        for name in names["train"] + names["test"]:
            records.find_folder(sequences, name)  # now, and not after hours
        frames = 7 * sum(map(len, names.values()))
        records.check_free_space(self.data_dir, frames * self.layout.frame_bytes)
        return {
            split: [(name, _frames(sequences / name, self.layout.scale)) for name in listed]
            for split, listed in names.items()
        }


def _read_list(path: pathlib.Path) -> list[str]:
    """Clip names of a list file; only names that cannot lead out of the data's folder."""
    names = path.read_text().split()
    for name in names:
        if not re.fullmatch(r"[0-9]{5}/[0-9]{4}", name):
            raise ValueError(f"{path} names {name!r}, expected names such as 00001/0001")
    return names


def _frames(folder: pathlib.Path, scale: int) -> Iterator[dict[str, np.ndarray]]:
    for number in range(1, 8):
        gt = records.read_png(folder / f"im{number}.png")
        yield {"gt": gt, "lq": degradations.imresize(gt, 1 / scale)}
