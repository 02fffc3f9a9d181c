"""TFDS builder of REDS, from the folders or zip files that its authors distribute."""

import dataclasses

import tensorflow_datasets as tfds

from jaxvsr.data import files, parts, records
from jaxvsr.data.parts import REDS4

_LQ = {"sharp_bicubic": "sharp_bicubic/X4", "blur_bicubic": "blur_bicubic/X4", "blur": "blur"}


# TFDS's config class is not frozen, and a frozen class cannot extend it.
@dataclasses.dataclass(eq=False, kw_only=True)
class RedsConfig(parts.PartConfig):
    """The frames of lq, and the extent of the files.

    Attributes:
        lq: "sharp_bicubic", "blur_bicubic", or "blur" (of the same size as gt).
        num_train: number of training clips 000, 001, ...; at least 21, which include REDS4.
        num_val: number of validation clips 000, 001, ..., which are renamed 240, 241, ...
        num_frames: of each clip.
        size: (H, W) of the frames.
    """

    lq: str = "sharp_bicubic"
    num_train: int = 240
    num_val: int = 30
    num_frames: int = 100
    size: tuple[int, int] = (720, 1280)

    def __post_init__(self):
        super().__post_init__()
        if self.lq not in _LQ:
            raise ValueError(f"lq must be one of {', '.join(_LQ)}, got {self.lq!r}")


class Builder(records.ClipBuilder):
    """TFDS builder of REDS; see README.md."""

    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = [
        RedsConfig(name="sharp_bicubic", description="Super-resolution x4."),
        RedsConfig(
            name="blur_bicubic",
            lq="blur_bicubic",
            description="Super-resolution x4 of frames with motion blur.",
        ),
        RedsConfig(name="blur", lq="blur", description="Deblurring at scale 1."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download train_sharp and val_sharp, and the lq of your config ({train,val}_sharp_bicubic,
    _blur_bicubic or _blur), from https://seungjunnah.github.io/Datasets/reds.html. manual_dir holds
    their zip files, or their contents: {train,val}_sharp/<clip>/<8 digits>.png,
    {train,val}_sharp_bicubic/X4/<clip>/<8 digits>.png and so on, perhaps below train/ and val/, and
    each perhaps in a folder with the name of its zip file.
    """

    @property
    def layout(self) -> records.Layout:
        config = self.builder_config
        scale = 1 if config.lq == "blur" else 4
        degradation = config.lq.removeprefix("sharp_")
        return records.Layout(config.size, scale, degradation)

    def _clips(self, dl_manager: tfds.download.DownloadManager) -> dict[str, records.Clips]:
        config = self.builder_config
        names = [f"{frame:08d}.png" for frame in range(config.num_frames)]
        splits = {}
        for split, clips in self._select(self._names(), of_each=False).items():
            part, shift = ("train", 0) if split == "train_official" else ("val", 240)
            gt, lq = (
                files.find_folder(dl_manager.manual_dir, *_places(part, name))
                for name in (f"{part}_sharp", f"{part}_{_LQ[config.lq]}")
            )
            splits[split] = [
                files.ClipFiles(
                    clip,
                    *(
                        files.ImageFrames([folder / f"{int(clip) - shift:03d}" / x for x in names])
                        for folder in (gt, lq)
                    ),
                )
                for clip in clips
            ]
        return self._from_files(splits)

    def _names(self) -> dict[str, list[str]]:
        """The names of all clips of each split."""
        config = self.builder_config
        return {
            "train_official": [f"{clip:03d}" for clip in range(config.num_train)],
            "val_official": [f"{clip + 240:03d}" for clip in range(config.num_val)],
        }

    def _views(self, dl_manager: tfds.download.DownloadManager) -> records.Views:
        names = self._names()
        train = [name for name in names["train_official"] if name not in REDS4]
        return {
            "train": {"train_official": train, "val_official": names["val_official"]},
            "reds4": {"train_official": list(REDS4)},
        }


def _places(part: str, name: str) -> list[str]:
    """Where the frames may be: as in the zip files, without train/, or one folder per zip file.

    Args:
        part: "train" or "val".
        name: of the folder, such as "train_sharp_bicubic/X4".
    """
    unpacked = name.split("/")[0]  # a folder with the name of the zip file
    return [f"{unpacked}/{part}/{name}", f"{unpacked}/{name}", name, f"{part}/{name}"]
