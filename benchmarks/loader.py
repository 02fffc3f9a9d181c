"""Time and disk of a training sample: the prepared data set against PNG files, on one core.

    python -m benchmarks.loader                              # a dead-leaves clip of 720x1280
    python -m benchmarks.loader --clip=/folder/of/png/frames

A sample is a random crop of 16 frames, 256x256 of gt and 64x64 of lq, with flips and transpose. The
PNG reader does what BasicSR's does: it decodes each file whole, by OpenCV where installed and by
Pillow otherwise, then crops. Both read the same samples of one clip, one after the other, from
the system's file cache. Prints a Markdown table.
"""

import dataclasses
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from benchmarks.common import machine, make_parser
from jaxvsr.data import pipeline, records, transforms
from jaxvsr.data.degradations import imresize
from jaxvsr.data.sources import TFDSClips
from jaxvsr.evaluation.markdown import markdown
from tfds_builders.dead_leaves import render

try:
    import cv2
except ImportError:
    cv2 = None  # type: ignore[assignment]

REDS = 270 * 100  # frames
WHOLE = {"lq": (), "gt": ()}  # every frame of a sample is kept
Reader = Callable[[pipeline.Sample], dict]


class OneClip(records.ClipBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A data set of one clip, the class attribute `frames`."""

    name = "one_clip"
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent
    frames: tuple = ()

    def _clips(self, dl_manager: tfds.download.DownloadManager) -> dict[str, records.Clips]:
        return {"train": [("clip", self.frames)]}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Medians per sample.

    Attributes:
        wall, processor: milliseconds.
        megabytes: of a frame, gt and lq, on the disk.
    """

    wall: float
    processor: float
    megabytes: float


def content(folder: str | None, length: int, size: tuple[int, int]) -> list[dict[str, np.ndarray]]:
    """The first frames of a folder, mirrored or cropped to `size`, or a dead-leaves clip."""
    if folder is None:
        gt = render.render_clip(0, "train", 0, length, size)["gt"]
    else:
        paths = sorted(pathlib.Path(folder).glob("*.png"))[:length]
        frames = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
        missing = [max(want - have, 0) for want, have in zip(size, frames.shape[1:3], strict=True)]
        gt = np.pad(frames, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), "symmetric")
        gt = gt[:, : size[0], : size[1]]
    return [{"gt": frame, "lq": imresize(frame, 1 / 4)} for frame in gt]


def decode(path: pathlib.Path) -> np.ndarray:
    """A PNG file as (h, w, 3) uint8."""
    if cv2 is None:
        return np.asarray(Image.open(path))
    bgr: Any = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    return bgr[..., ::-1]


def from_png(root: pathlib.Path, crop: int, sample: pipeline.Sample) -> dict[str, np.ndarray]:
    """A sample from the folders "gt" and "lq" of PNG files."""
    out = {}
    for name, scale in (("lq", 1), ("gt", 4)):
        top, left, size = sample.top * scale, sample.left * scale, crop // 4 * scale
        window = (slice(top, top + size), slice(left, left + size))
        frames = [decode(root / name / f"{i:08d}.png")[window] for i in sample.frames]
        x = transforms.augment(np.stack(frames), sample.hflip, sample.vflip, sample.transpose)
        out[name] = np.ascontiguousarray(x)
    return out


def milliseconds(read: Reader, samples: Sequence[pipeline.Sample]) -> tuple[float, float]:
    """Wall and processor time per sample."""
    wall, processor = time.perf_counter(), time.process_time()
    for sample in samples:
        read(sample)
    scale = 1000 / len(samples)
    return (time.perf_counter() - wall) * scale, (time.process_time() - processor) * scale


def megabytes(paths: Sequence[pathlib.Path], frames: int) -> float:
    """Size of the files per frame."""
    return sum(path.stat().st_size for path in paths) / frames / 1e6


def measure(
    clip: list[dict[str, np.ndarray]], frames: int, crop: int, samples: int, rounds: int
) -> dict[str, Cost]:
    """Costs of a sample from PNG files and from the prepared data set.

    Args:
        clip: frames {"gt", "lq"} (h, w, 3) uint8.
        frames: of a sample.
        crop: side of a sample in gt pixels.
        samples: read per round from the data set; a tenth as many from PNG files.
        rounds: of both; the median counts.

    Raises:
        AssertionError: the two read different pixels.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name in ("gt", "lq"):
            (root / "png" / name).mkdir(parents=True)
            for index, frame in enumerate(clip):
                Image.fromarray(frame[name]).save(root / "png" / name / f"{index:08d}.png")
        OneClip.frames = tuple(clip)
        OneClip(data_dir=root / "store").download_and_prepare()
        source = TFDSClips("one_clip", "train", str(root / "store"))
        sampler = pipeline.Sampler(source, frames, crop)
        rng = np.random.default_rng(0)
        drawn = [sampler(int(rng.integers(len(sampler))), rng) for _ in range(samples)]
        readers: dict[str, Reader] = {
            "PNG files": lambda sample: from_png(root / "png", crop, sample),
            "data set": pipeline.SampleReader(source, crop, False, WHOLE),
        }
        for sample in drawn[:3]:
            png, stored = (read(sample) for read in readers.values())
            assert all((png[name] == stored[name]).all() for name in png)
        counts = {"PNG files": -(-samples // 10), "data set": samples}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
        for _ in range(rounds):
            for name, read in readers.items():
                times[name].append(milliseconds(read, drawn[: counts[name]]))
        files = {"PNG files": root.glob("png/*/*"), "data set": root.rglob("*.array_record*")}
        costs = {}
        for name in readers:
            wall, processor = np.median(times[name], axis=0)
            costs[name] = Cost(wall, processor, megabytes(list(files[name]), len(clip)))
        return costs


def table(costs: dict[str, Cost]) -> str:
    """A row for each reader, in Markdown."""
    heads = ["a sample from", "wall (ms)", "processor (ms)", "MB a frame", "27,000 frames (GB)"]
    rows = [
        [
            name,
            f"{cost.wall:.1f}",
            f"{cost.processor:.1f}",
            f"{cost.megabytes:.2f}",
            f"{cost.megabytes * REDS / 1e3:.0f}",
        ]
        for name, cost in costs.items()
    ]
    return markdown(heads, rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints the table."""
    parser = make_parser("loader", __doc__)
    parser.add_argument("--clip", help="folder of PNG frames; default: a dead-leaves clip")
    parser.add_argument("--length", type=int, default=32, help="frames of the clip")
    parser.add_argument("--size", type=int, nargs=2, default=(720, 1280), help="height, width")
    parser.add_argument("--frames", type=int, default=16, help="frames of a sample")
    parser.add_argument("--crop", type=int, default=256, help="side of a sample, gt pixels")
    parser.add_argument("--samples", type=int, default=40, help="samples per round")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(argv)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    if cv2 is not None:
        cv2.setNumThreads(1)
    try:
        clip = content(options.clip, options.length, tuple(options.size))
        costs = measure(clip, options.frames, options.crop, options.samples, options.rounds)
    finally:
        os.sched_setaffinity(0, cores)
    print(f"\nPNG decoder: {'OpenCV' if cv2 else 'Pillow'}; median of {options.rounds} rounds.\n")
    print(table(costs))
    png, stored = costs.values()
    wall, processor = png.wall / stored.wall, png.processor / stored.processor
    print(f"\nPNG / data set: {wall:.1f} in wall time, {processor:.1f} in processor time.")
    print(machine())


if __name__ == "__main__":
    main()
