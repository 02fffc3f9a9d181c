"""A training sample from the store, against the same sample from PNG files, on one core.

    python -m benchmarks.loader [--clip=/a/folder/of/png/frames]

A sample is 16 frames, 256x256 of gt and 64x64 of lq: a random crop, flips and transpose, uint8,
contiguous. The PNG way is that of BasicSR: each of the 16 + 16 files is decoded whole, by OpenCV
where it is installed and by Pillow otherwise, then cropped and turned. Both draw the same samples
of one clip of 720x1280, in turns; the files are in the cache. Prints a table in Markdown.
"""

import argparse
import os
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxvsr.data import pipeline, records, transforms
from jaxvsr.data.degradations import imresize
from jaxvsr.data.sources import TFDSClips
from tfds_builders.dead_leaves import render

try:
    import cv2
except ImportError:
    cv2 = None

FRAMES, CROP, SIZE = 16, 256, (720, 1280)
LENGTH = 32  # frames of the clip
REDS = 270 * 100  # frames


class OneClip(records.ClipBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A data set of the frames that it is given."""

    name = "one_clip"
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent
    frames: tuple = ()

    def _clips(self, dl_manager: tfds.download.DownloadManager) -> dict[str, records.Clips]:
        return {"train": [("clip", self.frames)]}


def content(folder: str | None) -> list[dict[str, np.ndarray]]:
    """The first frames of a folder, mirrored to the size of REDS, or of a dead-leaves clip."""
    if folder is None:
        gt = render.render_clip(0, "train", 0, LENGTH, SIZE)["gt"]
    else:
        paths = sorted(pathlib.Path(folder).glob("*.png"))[:LENGTH]
        frames = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
        missing = [max(side - have, 0) for side, have in zip(SIZE, frames.shape[1:], strict=False)]
        gt = np.pad(frames, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), "symmetric")
        gt = gt[:, : SIZE[0], : SIZE[1]]
    return [{"gt": frame, "lq": imresize(frame, 1 / 4)} for frame in gt]


def decode(path: pathlib.Path) -> np.ndarray:
    """A PNG file as (h, w, 3) uint8."""
    data = path.read_bytes()
    if cv2 is None:
        return np.asarray(Image.open(path))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def from_png(root: pathlib.Path, sample: pipeline.Sample) -> dict[str, np.ndarray]:
    """A sample from folders "gt" and "lq" of PNG files."""
    out = {}
    for name, scale in (("lq", 1), ("gt", 4)):
        top, left, size = sample.top * scale, sample.left * scale, CROP // 4 * scale
        cut = (slice(top, top + size), slice(left, left + size))
        frames = [decode(root / name / f"{i:08d}.png")[cut] for i in sample.frames]
        turned = transforms.augment(np.stack(frames), sample.hflip, sample.vflip, sample.transpose)
        out[name] = np.ascontiguousarray(turned)
    return out


def milliseconds(read: Callable, samples: list[pipeline.Sample]) -> tuple[float, float]:
    """Wall and processor time of a sample."""
    wall, processor = time.perf_counter(), time.process_time()
    for sample in samples:
        read(sample)
    scale = 1000 / len(samples)
    return (time.perf_counter() - wall) * scale, (time.process_time() - processor) * scale


def megabytes(paths: list[pathlib.Path], frames: int) -> float:
    """Of a frame, gt and lq."""
    return sum(path.stat().st_size for path in paths) / frames / 1e6


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", help="a folder of PNG frames; dead leaves if not given")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    frames = content(options.clip)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name in ("gt", "lq"):
            (root / "png" / name).mkdir(parents=True)
            for number, frame in enumerate(frames):
                Image.fromarray(frame[name]).save(root / "png" / name / f"{number:08d}.png")
        OneClip.frames = tuple(frames)
        OneClip(data_dir=root / "store").download_and_prepare()
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        if cv2 is not None:
            cv2.setNumThreads(1)
        source = TFDSClips("one_clip", "train", str(root / "store"))
        draw, read = pipeline.Draw(source, FRAMES, CROP), pipeline.Read(source, CROP, False)
        rng = np.random.default_rng(0)
        samples = [draw(int(rng.integers(len(draw))), rng) for _ in range(40)]
        ways: dict[str, Callable] = {
            "PNG": lambda sample: from_png(root / "png", sample),
            "store": read,
        }
        for sample in samples[:3]:
            png, stored = (way(sample) for way in ways.values())
            assert all((png[name] == stored[name]).all() for name in png)
        times = {name: [] for name in ways}
        for _ in range(options.rounds):
            times["PNG"].append(milliseconds(ways["PNG"], samples[:4]))
            times["store"].append(milliseconds(ways["store"], samples))
        sizes = {
            "PNG": megabytes(list(root.glob("png/*/*")), len(frames)),
            "store": megabytes(list(root.rglob("*.array_record*")), len(frames)),
        }
    print(f"\n{'OpenCV' if cv2 else 'Pillow'} decodes the PNG files; median of the rounds.\n")
    print("| a sample from | wall, ms | processor, ms | MB a frame | 27,000 such frames, GB |")
    print("|---|---|---|---|---|")
    median = {name: np.median(values, axis=0) for name, values in times.items()}
    for name, (wall, processor) in median.items():
        size = sizes[name]
        print(f"| {name} | {wall:.1f} | {processor:.1f} | {size:.2f} | {size * REDS / 1e3:.0f} |")
    ratios = median["PNG"] / median["store"]
    print(f"\nPNG / store: {ratios[0]:.1f} in wall time, {ratios[1]:.1f} in processor time.")


if __name__ == "__main__":
    main()
