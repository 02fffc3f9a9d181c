"""TFDS builder of Vimeo-90K, from the folder or zip file that its authors distribute."""

import dataclasses
import os

import tensorflow_datasets as tfds

from jaxvsr.data import files, parts, records

_SUBSETS = ("fast", "medium", "slow")
# Folders in which common tools store the low-resolution frames, beside the data or below.
_GIVEN = {
    "bicubic": ("vimeo_septuplet_matlabLRx4/sequences", "BIx4/sequences", "BIx4"),
    "bd": ("vimeo_septuplet_BDLRx4/sequences", "BDx4/sequences", "BDx4"),
}


# TFDS's config class is not frozen, and a frozen class cannot extend it.
@dataclasses.dataclass(eq=False, kw_only=True)
class Vimeo90kConfig(parts.PartConfig):
    """The degradation of lq.

    Attributes:
        degradation: "bicubic" or "bd"; "none": lq is gt.
        given: whether lq is read from a folder, rather than made here.
        size: (H, W) of the frames.
    """

    degradation: str = "bicubic"
    given: bool = False
    size: tuple[int, int] = (256, 448)

    @property
    def scale(self) -> int:
        """H/h."""
        return 1 if self.degradation == "none" else 4

    def __post_init__(self):
        super().__post_init__()
        files.check_degradation(self.degradation, self.scale)


class Builder(records.ClipBuilder):
    """TFDS builder of Vimeo-90K; the two list files name its clips."""

    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = [
        Vimeo90kConfig(name="bicubic", description="Bicubic x4, made here."),
        Vimeo90kConfig(name="bd", degradation="bd", description="BD x4, made here."),
        Vimeo90kConfig(name="bicubic_given", given=True, description="Bicubic x4, given."),
        Vimeo90kConfig(name="bd_given", degradation="bd", given=True, description="BD x4, given."),
        Vimeo90kConfig(
            name="clean", degradation="none", description="Denoising and frame interpolation."
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download "The original training + test set (82GB)" of the septuplets from
    http://toflow.csail.mit.edu/. manual_dir holds the zip file, or its contents:
    sequences/<5 digits>/<4 digits>/im1.png..im7.png, sep_trainlist.txt and sep_testlist.txt,
    perhaps in a folder vimeo_septuplet. A config *_given also needs, in manual_dir or its parent,
    the low-resolution frames, vimeo_septuplet_matlabLRx4/sequences/..., BIx4/... or BDx4/...
    """

    @property
    def layout(self) -> records.Layout:
        config = self.builder_config
        return records.Layout(config.size, config.scale, config.degradation, group=7)

    def _clips(self, dl_manager: tfds.download.DownloadManager) -> dict[str, records.Clips]:
        config = self.builder_config
        gt, lq = _sequences(dl_manager.manual_dir), None
        if config.given:
            places = _GIVEN[config.degradation]
            above = [f"../{place}" for place in places]
            lq = files.find_folder(dl_manager.manual_dir, *places, *above)
        lists = {split: _names(gt.parent / f"sep_{split}list.txt") for split in ("train", "test")}
        return self._from_files(
            {
                split: [
                    files.ClipFiles(
                        name, _septuplet(gt / name), _septuplet(lq / name) if lq else None
                    )
                    for name in names
                ]
                for split, names in self._select(lists).items()
            }
        )

    def _views(self, dl_manager: tfds.download.DownloadManager) -> records.Views:
        root = _sequences(dl_manager.manual_dir).parent
        test = set(_names(root / "sep_testlist.txt"))
        views = {}
        for subset in _SUBSETS:
            path = root / f"sep_{subset}_testset.txt"
            if path.is_file():
                names = _names(path)
                if others := set(names) - test:
                    raise ValueError(f"{path} names {min(others)!r}, which is no test clip")
                views[subset] = {"test": names}
        return views


def _sequences(manual_dir: str | os.PathLike) -> files.Place:
    return files.find_folder(manual_dir, "sequences", "vimeo_septuplet/sequences")


def _names(path: files.Place) -> list[str]:
    return files.read_list(path, r"[0-9]{5}/[0-9]{4}", "00001/0001")


def _septuplet(folder: files.Place) -> files.ImageFrames:
    return files.ImageFrames([folder / f"im{number}.png" for number in range(1, 8)])
