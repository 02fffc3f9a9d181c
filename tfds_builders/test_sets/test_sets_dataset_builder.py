"""TFDS builder of Vid4, UDM10 and SPMCS-30, from the folders in which they are distributed."""

import dataclasses
import pathlib

import tensorflow_datasets as tfds

from jaxvsr.data import files, parts, records

# Names of a clip's folder of frames below a folder with the clip's name.
_BELOW = {"gt": ("truth",), "bicubic": ("input4",), "bd": ("blur4",)}
# Names of the folder above the clips' folders, in the other layout.
_ABOVE = {"gt": ("GT", "gt"), "bicubic": ("BIx4",), "bd": ("BDx4",)}


# TFDS's config class is not frozen, and a frozen class cannot extend it.
@dataclasses.dataclass(eq=False, kw_only=True)
class SetConfig(parts.PartConfig):
    """A test set and the degradation of its lq.

    Attributes:
        folders: possible names of the set's folder.
        num_clips, num_frames: expected in total.
        degradation: of lq, "bicubic" or "bd".
        given: whether lq is read from a folder, rather than made here.
    """

    folders: tuple[str, ...]
    num_clips: int
    num_frames: int
    degradation: str = "bicubic"
    given: bool = False

    def __post_init__(self):
        super().__post_init__()
        files.check_degradation(self.degradation, 4)


def _configs() -> list[SetConfig]:
    sets = {
        "vid4": (("Vid4", "vid4"), 4, 171),
        "udm10": (("UDM10", "udm10"), 10, 320),
        "spmcs30": (("SPMCS", "spmcs", "SPMCS30", "spmcs30"), 30, 930),
    }
    kinds = [("", "bicubic", False), ("_bd", "bd", False)]
    kinds += [("_given", "bicubic", True), ("_bd_given", "bd", True)]
    return [
        SetConfig(
            name=name + suffix,
            description=f"{degradation} x4, {'given' if given else 'made here'}.",
            folders=folders,
            num_clips=clips,
            num_frames=frames,
            degradation=degradation,
            given=given,
        )
        for name, (folders, clips, frames) in sets.items()
        for suffix, degradation, given in kinds
    ]


class Builder(records.ClipBuilder):
    """TFDS builder of the test sets; see README.md."""

    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = _configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    manual_dir is the set's folder (Vid4, UDM10, SPMCS) or its parent. The set's folder holds
    GT/<clip>/<number>.png, or <clip>/truth/<number>.png; a config *_given also needs
    BIx4/<clip>/... or BDx4/<clip>/..., or <clip>/input4/... or <clip>/blur4/...
    """

    @property
    def layout(self) -> records.Layout:
        return records.Layout(degradation=self.builder_config.degradation)

    def _clips(self, dl_manager: tfds.download.DownloadManager) -> dict[str, records.Clips]:
        config = self.builder_config
        gt = _clip_folders(dl_manager.manual_dir, config.folders, "gt")
        lq = {}
        if config.given:
            lq = _clip_folders(dl_manager.manual_dir, config.folders, config.degradation)
        if isinstance(config.clips, int) and len(gt) != config.num_clips:
            raise ValueError(
                f"--clips={config.clips} needs all {config.num_clips} clips of the set, found "
                f"{', '.join(gt)}: name some of them instead"
            )
        chosen = self._select({"test": list(gt)}, counts={"test": config.num_clips})["test"]
        if missing := [name for name in chosen if config.given and name not in lq]:
            raise ValueError(f"clip {missing[0]} is in gt, but lq has {', '.join(lq)}")
        frames = {name: files.numbered_frames(gt[name]) for name in chosen}
        total = sum(map(len, frames.values()))
        if not config.whole and (len(frames), total) != (config.num_clips, config.num_frames):
            lengths = ", ".join(f"{name} ({len(paths)})" for name, paths in frames.items())
            raise ValueError(
                f"expected {config.num_clips} clips of {config.num_frames} frames in all, found "
                f"{len(frames)} of {total}: {lengths}"
            )
        clips = [
            files.ClipFiles(
                name,
                files.ImageFrames(paths),
                files.ImageFrames(files.numbered_frames(lq[name])) if lq else None,
            )
            for name, paths in frames.items()
        ]
        return self._from_files({"test": clips})


def _clip_folders(manual_dir: str, sets: tuple[str, ...], kind: str) -> dict[str, files.Place]:
    """Finds the folder of each clip's frames, of gt or of a degradation.

    Raises:
        FileNotFoundError: none was found.
    """
    roots = ("", *(f"{name}/" for name in sets))
    try:
        above = files.find_folder(
            manual_dir, *(root + name for root in roots for name in _ABOVE[kind])
        )
        folders = {path.name: path for path in above.iterdir() if path.is_dir()}
    except FileNotFoundError:
        folders = {
            path.parent.name: path
            for root in roots
            for name in _BELOW[kind]
            for path in pathlib.Path(manual_dir, root).glob(f"*/{name}")
        }
        if not folders:
            raise
    return dict(sorted(folders.items()))
