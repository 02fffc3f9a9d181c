"""Random access to clips of paired frames."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

from jaxvsr.errors import InputError


@dataclasses.dataclass(frozen=True)
class Clip:
    """What is known of a clip without reading it.

    Attributes:
        name: unique in its split.
        length: frames.
        height, width: of a target frame, pixels.
    """

    name: str
    length: int
    height: int
    width: int


class TFDSClips:
    """The clips of a split of a data set that was prepared by one of tfds_builders/.

    Attributes:
        clips: in the order of the records.
        scale: of the targets over the inputs.
    """

    def __init__(self, dataset: str, split: str, data_dir: str = "") -> None:
        """Opens the data set; no frame is read.

        Args:
            dataset: "name" or "name/config".
            split: of the data set.
            data_dir: where TFDS keeps its data sets; its own default if empty.

        Raises:
            InputError: no such data set or split is prepared, or it is empty.
        """
        data_dir = data_dir or tfds.core.constants.DATA_DIR
        try:
            builder = read_only_builder.builder_from_files(dataset, data_dir=data_dir)
            clips = builder.info.metadata["clips"]
        except (tfds.core.DatasetNotFoundError, KeyError, TypeError) as error:
            raise InputError(
                f"the data set {dataset!r} is not prepared in {data_dir}. Prepare it once:\n"
                f"    make data DATASET={dataset}\n"
                "with MANUAL_DIR=<where you downloaded it to> if it is one that is downloaded by "
                "hand; docs/data.md says where from."
            ) from error
        if split not in clips:
            raise InputError(
                f"the data set {dataset!r} has no split {split!r}, but {', '.join(clips)}"
            )
        self.clips = tuple(Clip(*clip) for clip in clips[split])
        if not self.clips:
            raise InputError(
                f"the split {split!r} of the data set {dataset!r} in {data_dir} is empty: prepare "
                "it again"
            )
        self.scale = builder.info.metadata["scale"]
        self._records = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        # What else a record holds, such as the true flow, is not decoded.
        self._features = tfds.features.FeaturesDict(
            {name: builder.info.features[name] for name in ("gt", "lq")}
        )
        self._first = np.cumsum([0, *(clip.length for clip in self.clips)])

    def read(self, clip: int, frames: Sequence[int]) -> dict[str, np.ndarray]:
        """Reads frames of a clip.

        Args:
            clip: its place in `clips`.
            frames: their numbers.

        Returns:
            "gt" (t, H, W, 3) and "lq" (t, h, w, 3), uint8 RGB.
        """
        records = self._records.__getitems__([int(self._first[clip]) + i for i in frames])
        decoded = [self._features.deserialize_example_np(record) for record in records]
        return {name: np.stack([frame[name] for frame in decoded]) for name in ("gt", "lq")}
