"""Renders training clips into a folder, by as many processes as there are cores.

    python -m benchmarks.render_clips FOLDER --workers=14
    python -m benchmarks.render_clips FOLDER --workers=14 --photos=PHOTOS

The clips show dead leaves or, with `--photos`, most of them photographs that move: see
`benchmarks.photos` and `benchmarks.render_photos`.

Runs until it is stopped or the folder holds `--clips`; the same command resumes. Each file has
"gt" (t, H, W, 3) and "lq" (v, t, H/4, W/4, 3) uint8: the bicubic reduction, then versions of it
compressed by H.264, the last one also blurred, resized or noisy. Needs neither JAX nor TFDS.
"""

import argparse
import dataclasses
import functools
import multiprocessing
import os
import pathlib
import time
from collections.abc import Callable, Sequence

import numpy as np

from jaxvsr.data.degradations import Compressed, compressed, imresize
from tfds_builders.dead_leaves import render

FRAMES, SIZE = 14, 256
# Sizes that are rendered, and how often: reduced to SIZE they are sharper, as real frames are.
RENDERED = {256: 0.35, 384: 0.35, 512: 0.3}
PHOTOGRAPHS = 0.8  # of the clips, where there are photographs
# Of low contrast, too: as hard to compress as real frames, whose errors at a rate are smaller.
CONTRAST = {"leaves": (0.35, 1.0), "photographs": (0.6, 1.0)}
FULL = Compressed(crf=(19, 39))
PLAIN = dataclasses.replace(FULL, blur=0, resize=0, noise=0)
# Seed of all clips and index of one -> its arrays.
Make = Callable[[int, int], dict[str, np.ndarray]]


def clip(seed: int, index: int, photos: Sequence[pathlib.Path] = ()) -> dict[str, np.ndarray]:
    """The clip of an index: "gt" and "lq", as in the files."""
    rng = np.random.default_rng([seed, index])
    if photos and rng.uniform() < PHOTOGRAPHS:
        from benchmarks import render_photos  # needs OpenCV

        gt, contrast = render_photos.frames(rng, photos, FRAMES, SIZE), CONTRAST["photographs"]
    else:
        gt, contrast = leaves(rng, seed, index), CONTRAST["leaves"]
    gt = faded(gt, rng, contrast)
    lq = [imresize(gt, 1 / 4), compressed(gt, rng, PLAIN), compressed(gt, rng, PLAIN)]
    return {"gt": gt, "lq": np.stack([*lq, compressed(gt, rng, FULL)])}


def leaves(rng: np.random.Generator, seed: int, index: int) -> np.ndarray:
    """Frames (t, H, W, 3) uint8 of dead leaves."""
    side = int(rng.choice(list(RENDERED), p=list(RENDERED.values())))
    gt = render.render_clip(seed, "train", index, FRAMES, (side, side))["gt"]
    return gt if side == SIZE else imresize(gt, SIZE / side)


def faded(
    frames: np.ndarray, rng: np.random.Generator, contrast: tuple[float, float]
) -> np.ndarray:
    """Frames, uint8, of a contrast in a range and of a random brightness."""
    white = rng.uniform(*contrast)
    black = rng.uniform(0, 255 * (1 - white))
    return np.round(black + np.float32(white) * frames).astype(np.uint8)


def write(make: Make, folder: pathlib.Path, seed: int, first: int, end: int, step: int) -> None:
    """Writes the clips first, first + step, ... below end, as long as the parent lives."""
    parent = os.getppid()
    for index in range(first, end, step):
        path = folder / f"{index:06}.npz"
        if path.exists():
            continue
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **make(seed, index))
        partial.rename(path)
        if os.getppid() != parent:
            return


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of the arguments of `render_files`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def render_files(make: Make, given: argparse.Namespace) -> None:
    """Renders files of the arrays that `make` returns."""
    given.folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # one core each
    context, begin = multiprocessing.get_context("spawn"), time.monotonic()
    processes = [
        context.Process(
            target=write, args=(make, given.folder, given.seed, first, given.clips, given.workers)
        )
        for first in range(given.workers)
    ]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        time.sleep(10)
        count = sum(1 for _ in given.folder.glob("*.npz"))
        print(f"{time.monotonic() - begin:.0f} s: {count} clips", flush=True)
    if any(process.exitcode for process in processes):
        raise SystemExit("a process failed: see above")


def main() -> None:
    """Renders clips of dead leaves and of photographs."""
    parser = make_parser(__doc__)
    parser.add_argument("--photos", type=pathlib.Path, help="folder of photographs (.jpg)")
    given = parser.parse_args()
    photos = sorted(given.photos.glob("*.jpg")) if given.photos else ()
    if given.photos and not photos:
        parser.error(f"no photographs (.jpg) in {given.photos}: see benchmarks/photos.py")
    render_files(functools.partial(clip, photos=photos), given)


if __name__ == "__main__":
    main()
