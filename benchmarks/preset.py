"""Scores of built-in weights on frames, beside bicubic interpolation.

    python -m benchmarks.preset swrn swrn-x2 --frames FOLDER VIDEO ... --crf 23 28 35
    python -m benchmarks.preset swrn --make_of=RUN         # writes the run's best weights
    python -m benchmarks.preset swrn --record --frames ... # for `jaxvsr upscale --list`

The frames of the folders and videos are the ground truth; the input is their bicubic reduction,
uncompressed and compressed by x264 at the given rates. Scores are of 8-bit frames without cropping,
averaged over the frames. `--folder` scores weights outside the package. `--record` stores PSNR on Y
of the uncompressed frames and the time of a frame in the config of each preset; the names of the
folders and videos are the headings.
"""

import argparse
import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from benchmarks.common import machine, make_parser
from jaxvsr import metrics, models, presets
from jaxvsr.console import be_silent, work_seconds
from jaxvsr.data.degradations import h264, imresize
from jaxvsr.evaluation import reports, restoring
from jaxvsr.pixels import to_integers
from jaxvsr.training.checkpoints import load_best
from jaxvsr.upscale import SAMPLE
from jaxvsr.upscaling.stream import Settings, Stream
from jaxvsr.video.images import write_image
from jaxvsr.video.reading import Frame, TimeRange, open_source

COUNTED_FROM, COUNTED = 16, 32  # frames


def make(name: str, run: pathlib.Path) -> None:
    """Writes the best weights of a run and its config as the preset `name`."""
    plain = json.loads((run / "config.json").read_text())
    config = ml_collections.ConfigDict(plain)
    step, variables, _ = load_best(config, models.create(**config.model), run)
    presets.save(name, jax.device_get(variables), plain)
    print(f"{name}: step {step} of {run}")


def read(path: pathlib.Path, count: int | None) -> np.ndarray:
    """The first frames (t, H, W, 3) uint8 of a folder or a video, cropped to multiples of 4."""
    frames = itertools.islice(open_source(path).frames(TimeRange(), print), count)
    gt = np.stack([frame.pixels for frame in frames])
    height, width = (side // 4 * 4 for side in gt.shape[1:3])
    return gt[:, :height, :width]


def scores(given: argparse.Namespace, path: pathlib.Path) -> list[list[str]]:
    """Table rows: bicubic and the presets on the frames of a folder or a video."""
    gt = read(path, given.count)
    by_scale: dict[int, list[tuple[str, Callable[[np.ndarray], np.ndarray]]]] = {}
    for name in given.names:
        model, variables, _ = presets.load(name, given.folder)
        restore = functools.partial(_restored, restoring.make_restorer(model), variables)
        bicubic = functools.partial(imresize, scale=model.scale)
        by_scale.setdefault(model.scale, [("bicubic", bicubic)]).append((name, restore))
    rows = []
    for scale, methods in by_scale.items():
        clean = imresize(gt, 1 / scale)
        for crf in (None, *given.crf):
            lq = clean if crf is None else h264(clean, crf=crf)
            coded = "" if crf is None else f"CRF {crf}"
            for by, method in methods:
                sr = method(lq)
                found = [
                    f"{metric(sr, gt, 0, channel).mean():.{digits}f}"
                    for channel in ("y", "rgb")
                    for metric, digits in ((metrics.psnr, 2), (metrics.ssim, 4))
                ]
                rows.append([path.stem, f"x{scale}", coded, by, *found])
                if given.pictures:
                    title = "-".join(filter(None, (path.stem, f"x{scale}", coded[4:], by)))
                    write_image(given.pictures / f"{title}.png", sr[len(sr) // 2])
    return rows


def milliseconds(name: str, folder: pathlib.Path) -> float:
    """Work per frame of upscaling the sample video, of 180x320, without reading and writing it.

    For networks that see whole clips: of eight frames, without the frames that chunks share.
    """
    model, variables, _ = presets.load(name, folder)
    sample = read(SAMPLE, 8)
    if model.lookahead is None:
        restore = restoring.make_restorer(model)
        for _ in range(2):  # the first time it is compiled
            begin = work_seconds()
            _restored(restore, variables, sample)
        return 1e3 * (work_seconds() - begin) / len(sample)
    frames = (Frame(sample[i % 8], i) for i in range(COUNTED_FROM + COUNTED + 1))
    outputs = Stream(model, variables, frames, Settings(warm_up=True), say=be_silent).outputs()
    times = [work_seconds() for _ in outputs][COUNTED_FROM:]  # the first wait for the compiler
    return 1e3 * (times[-1] - times[0]) / COUNTED


def _restored(restore: restoring.Restorer, variables: Any, lq: np.ndarray) -> np.ndarray:
    """sr (t, H, W, 3) uint8 of lq (t, h, w, 3) uint8."""
    return np.asarray(to_integers(restore(variables, jnp.asarray(lq[None]))[0][0]))


def measurements(name: str, rows: list[list[str]], folder: pathlib.Path) -> dict[str, Any]:
    """What `presets.record` stores, of rows of `scores`."""
    model, *_ = presets.load(name, folder)
    clean = [row for row in rows if row[1:3] == [f"x{model.scale}", ""]]
    psnr = {
        (clip, by): float(psnr) for clip, _, _, by, psnr, *_ in clean if by in ("bicubic", name)
    }
    return {
        "psnr_y": {
            clip: {"bicubic": psnr[clip, "bicubic"], "preset": psnr[clip, name]}
            for clip in dict.fromkeys(clip for clip, _ in psnr)
        },
        "milliseconds": round(milliseconds(name, folder), 1),
        "machine": machine(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Writes and scores presets."""
    parser = make_parser("preset", __doc__)
    parser.add_argument("names", nargs="+", help="names of presets")
    parser.add_argument("--make_of", type=pathlib.Path, metavar="RUN", help="workdir of a run")
    parser.add_argument("--frames", type=pathlib.Path, nargs="*", default=[], metavar="PATH")
    parser.add_argument("--crf", type=int, nargs="*", default=[], help="constant rate factors")
    parser.add_argument("--count", type=int, help="frames of each video; default: all")
    parser.add_argument(
        "--folder", type=pathlib.Path, default=presets.FOLDER, help="folder of presets"
    )
    parser.add_argument("--record", action="store_true", help="store the measurements")
    parser.add_argument("--pictures", type=pathlib.Path, help="folder for the middle frames")
    given = parser.parse_args(argv)
    if given.make_of:
        make(given.names[0], given.make_of)
    rows = [row for path in given.frames for row in scores(given, path)]
    heads = ["frames", "scale", "H.264", "by", "PSNR (Y)", "SSIM (Y)", "PSNR (RGB)", "SSIM (RGB)"]
    if rows:
        print(reports.markdown(heads, rows))
    for name in given.names if given.record else ():
        presets.record(name, measurements(name, rows, given.folder), given.folder)


if __name__ == "__main__":
    main()
