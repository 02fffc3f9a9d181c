"""Opens a data set of a config: prepared by TFDS, or a pair of LMDB folders."""

import pathlib

from jaxvsr.data.lmdb_clips import LmdbClips, is_lmdb
from jaxvsr.data.sources import ClipSource, TFDSClips


def open_clips(dataset: str, split: str, data_dir: str = "") -> ClipSource:
    """Opens the clips of a split, without reading frames.

    Args:
        dataset: "name" or "name/config" of a prepared data set, or "GT.lmdb,LQ.lmdb".
        split: of the data set.
        data_dir: folder of the prepared data sets; "": the default of TFDS.

    Raises:
        InputError: the data set is missing or damaged, or the split is unknown or empty.
    """
    if is_lmdb(dataset):
        return LmdbClips(dataset, split)
    return TFDSClips(dataset, split, data_dir)


def short_name(dataset: str) -> str:
    """Returns a data set's name in the names of files: "reds_blur", "train_sharp_with_val"."""
    if is_lmdb(dataset):
        return pathlib.PurePath(dataset.split(",")[0]).stem
    return dataset.replace("/", "_")
