"""TFDS builder of your own clips: folders of PNG or JPEG frames, or video files.

    python -m tfds_builders tfds_builders/frames --config='{"name": "mine", "gt": "/my/clips"}'

from the repository's root, with the options of `tfds build`. `FramesConfig` lists all fields.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import tensorflow_datasets as tfds

from jaxvsr.data import files, records
from jaxvsr.files import check_regular
from jaxvsr.video.images import is_hidden
from jaxvsr.video.reading import VIDEO_SUFFIXES


# TFDS's config class is not frozen, and a frozen class cannot extend it.
@dataclasses.dataclass(eq=False, kw_only=True)
class FramesConfig(tfds.core.BuilderConfig):
    """The clips and their degradation.

    Attributes:
        gt: folder of clips, which are folders of PNG or JPEG frames with numbers in their names, or
            video files. A clip is named after its folder, or its file without suffix.
        lq: folder of the same clips at low resolution; "": made here.
        scale: H/h.
        degradation: "bicubic" or "bd"; "none": lq is gt, at scale 1. For a given lq, any name.
        val: names of the clips of split "val"; the others form "train".
    """

    gt: str = ""
    lq: str = ""
    scale: int = 4
    degradation: str = "bicubic"
    val: Sequence[str] = ()

    def __post_init__(self):
        if isinstance(self.val, str):
            raise ValueError(f"val must be a list of names, got {self.val!r}")
        if not 1 <= self.scale <= 8:
            raise ValueError(f"scale must be from 1 to 8, got {self.scale}")
        if self.lq and self.degradation == "none":
            raise ValueError("with degradation 'none' lq is gt: leave out the folder lq")
        if not self.lq:
            files.check_degradation(self.degradation, self.scale)


class Builder(records.ClipBuilder):
    """TFDS builder of the user's clips; see README.md."""

    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = [
        FramesConfig(name="none", description="A placeholder: give your own config as JSON.")
    ]

    @property
    def layout(self) -> records.Layout:
        config = self.builder_config
        return records.Layout(scale=config.scale, degradation=config.degradation)

    def _clips(self, dl_manager: tfds.download.DownloadManager) -> dict[str, records.Clips]:
        config = self.builder_config
        if not config.gt:
            raise ValueError(
                """name the folder of clips: --config='{"name": "mine", "gt": "/my/clips"}'"""
            )
        gt = _clips_in(config.gt)
        lq = _clips_in(config.lq) if config.lq else {}
        if config.lq and lq.keys() != gt.keys():
            odd = sorted(lq.keys() ^ gt.keys())[0]
            there, missing = ("gt", "lq") if odd in gt else ("lq", "gt")
            raise ValueError(
                f"clip {odd} is in {there}, {getattr(config, there)}, not in {missing}"
            )
        if unknown := set(config.val) - gt.keys():
            raise ValueError(f"val names {min(unknown)!r}, but gt has {', '.join(gt)}")
        splits: dict[str, list] = {"train": [], "val": []}
        for name, frames in gt.items():
            split = "val" if name in config.val else "train"
            splits[split].append(files.ClipFiles(name, frames, lq.get(name)))
        return self._from_files({split: clips for split, clips in splits.items() if clips})


def _clips_in(folder: str) -> dict[str, files.Frames]:
    """Finds the clips of a folder, sorted by name.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the folder holds no clips, something else, or two clips of one name.
    """
    root = pathlib.Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    clips: dict[str, files.Frames] = {}
    for path in sorted(root.iterdir()):
        check_regular(path)
        name = path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name
        if is_hidden(path):
            continue
        if name in clips:
            raise ValueError(f"{root} holds two clips {name}")
        if path.is_dir():
            clips[name] = files.ImageFrames(files.numbered_frames(path))
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            clips[name] = files.VideoFrames(path)
        else:
            lone = f": is {root} itself a clip? Then give its parent folder"
            hint = lone if path.suffix.lower() in files.FRAME_SUFFIXES else ""
            raise ValueError(
                "expected folders of PNG or JPEG frames, or videos "
                f"({', '.join(VIDEO_SUFFIXES)}) in {root}, found {path.name}{hint}"
            )
    if not clips:
        raise ValueError(f"{root} is empty: expected folders of PNG or JPEG frames, or videos")
    return clips
