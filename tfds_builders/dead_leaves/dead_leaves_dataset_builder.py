"""Dead leaves: synthetic clips for super-resolution, rendered rather than downloaded.

    python -m tfds_builders tfds_builders/dead_leaves --config=small

from the repository's root, with the options of `tfds build`. "small" takes half a minute on two
cores and 0.17 GB of disk, "large" an hour or so and 25 GB (44 GB while it is written). A size of
your own:

    --config='{"name": "mine", "num_train": 500, "num_val": 10, "num_frames": 14, "size": 384}'
"""

import collections
import dataclasses
import os
from collections.abc import Iterator
from concurrent import futures

import numpy as np
import tensorflow_datasets as tfds

from jaxvsr.data import records

from . import render


# TFDS's own config class is not frozen, and Python does not let a frozen class extend it.
@dataclasses.dataclass(eq=False, kw_only=True)
class DeadLeavesConfig(tfds.core.BuilderConfig):
    """Number and size of the clips.

    Attributes:
        num_train: clips of the split "train", > 0.
        num_val: clips of the split "val", > 0.
        num_frames: frames of a clip, > 0.
        size: pixels of gt, a multiple of 4: one side of a square, or (H, W).
        seed: >= 0; another seed gives other clips.
    """

    num_train: int
    num_val: int
    num_frames: int
    size: int | tuple[int, int]
    seed: int = 0

    def __post_init__(self):
        if min(self.num_train, self.num_val, self.num_frames) < 1 or self.seed < 0:
            raise ValueError(f"a config needs clips, frames and a seed >= 0, got {self}")
        if min(self.frame_size) < 64 or any(side % render.SCALE for side in self.frame_size):
            raise ValueError(f"size must be multiples of 4 from 64 on, got {self.size}")

    @property
    def frame_size(self) -> tuple[int, int]:
        """(H, W) of gt in pixels."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return height, width


class Builder(records.ClipBuilder):
    """TFDS builder of the dead-leaves clips; see README.md."""

    VERSION = tfds.core.Version("3.0.0")
    BUILDER_CONFIGS = [
        DeadLeavesConfig(
            name="small",
            description="For a demonstration: enough for a small model in minutes.",
            num_train=100,
            num_val=6,
            num_frames=10,
            size=256,
        ),
        DeadLeavesConfig(
            name="large",
            description="For pre-training.",
            num_train=2000,
            num_val=20,
            num_frames=20,
            size=512,
        ),
        DeadLeavesConfig(
            name="test",
            description="For unit tests.",
            num_train=2,
            num_val=1,
            num_frames=3,
            size=128,
        ),
    ]

    @property
    def layout(self) -> records.Layout:
        return records.Layout(self.builder_config.frame_size, render.SCALE, "bicubic", flow=True)

    def _clips(self, dl_manager: tfds.download.DownloadManager) -> dict[str, records.Clips]:
        config = self.builder_config
        self.num_frames = (config.num_train + config.num_val) * config.num_frames
        records.check_free_space(self.data_dir, self.num_frames * self.layout.frame_bytes)
        return {
            "train": _rendered(config, "train", config.num_train),
            "val": _rendered(config, "val", config.num_val),
        }

    def _kinds(self) -> dict[str, dict[str, str]]:
        config = self.builder_config
        counts = {"train": config.num_train, "val": config.num_val}
        return {
            split: {_name(index): render.kind(index) for index in range(count)}
            for split, count in counts.items()
        }


def _rendered(
    config: DeadLeavesConfig, split: str, count: int
) -> Iterator[tuple[str, Iterator[dict[str, np.ndarray]]]]:
    """Yields clips in order, the next ones being rendered meanwhile.

    In threads, as NumPy lets go of the interpreter where the time goes: processes would have to
    import the caller's main module and with it, often, TensorFlow.
    """

    def clip(index: int) -> dict[str, np.ndarray]:
        return render.render_clip(config.seed, split, index, config.num_frames, config.frame_size)

    ahead = os.cpu_count() or 1
    pending: collections.deque[futures.Future] = collections.deque()
    with futures.ThreadPoolExecutor(ahead) as pool:
        for index in range(count + ahead):
            if index < count:
                pending.append(pool.submit(clip, index))
            if index >= ahead:
                yield _name(index - ahead), _frames(pending.popleft().result())


def _name(index: int) -> str:
    return f"{index:05d}"


def _frames(clip: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    for t in range(len(clip["gt"])):
        yield {name: values[t] for name, values in clip.items()}
