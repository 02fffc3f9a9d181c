"""Built-in weights: made of a run, and scored on frames against bicubic enlargement.

    python benchmarks/preset.py swrn --make_of=RUN
    python benchmarks/preset.py swrn video --frames FOLDER VIDEO ... --crf 23 28 35

Frames are gt, of folders of images or of videos; lq is their bicubic reduction, also compressed by
x264 at the given rates. Scores are of 8 bits, nothing cropped, the mean over the frames. `--folder`
scores weights that are not yet in the package.
"""

import argparse
import functools
import itertools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np

from jaxvsr import metrics, models, presets
from jaxvsr.data.degradations import h264, imresize
from jaxvsr.evaluation import reports, restoring
from jaxvsr.pixels import to_integers
from jaxvsr.training.checkpoints import load_best
from jaxvsr.video.images import write_image
from jaxvsr.video.reading import TimeRange, open_source


def make(name: str, run: pathlib.Path) -> None:
    """Writes the best weights of a run, and its config, as a preset."""
    plain = json.loads((run / "config.json").read_text())
    config = ml_collections.ConfigDict(plain)
    step, variables, _ = load_best(config, models.create(**config.model), run)
    presets.save(name, jax.device_get(variables), plain)
    print(f"{name}: step {step} of {run}")


def read(path: pathlib.Path, count: int | None) -> np.ndarray:
    """The first frames (t, H, W, 3) uint8 of a folder or a video, sides cut to multiples of 4."""
    frames = itertools.islice(open_source(path).frames(TimeRange(), print), count)
    gt = np.stack([frame.pixels for frame in frames])
    height, width = (side // 4 * 4 for side in gt.shape[1:3])
    return gt[:, :height, :width]


def scores(given: argparse.Namespace, path: pathlib.Path) -> list[list[str]]:
    """Rows of a table: bicubic and the presets on the frames of a folder or a video."""
    gt = read(path, given.count)
    by_scale: dict[int, list[tuple[str, Callable[[np.ndarray], np.ndarray]]]] = {}
    for name in given.names:
        model, variables, _ = presets.load(name, given.folder)
        restore = functools.partial(_restored, restoring.make_restorer(model), variables)
        bicubic = functools.partial(imresize, scale=model.scale)
        by_scale.setdefault(model.scale, [("bicubic", bicubic)]).append((name, restore))
    rows = []
    for scale, ways in by_scale.items():
        clean = imresize(gt, 1 / scale)
        for crf in (None, *given.crf):
            lq = clean if crf is None else h264(clean, crf=crf)
            coded = "" if crf is None else f"CRF {crf}"
            for by, way in ways:
                sr = way(lq)
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


def _restored(restore: restoring.Restorer, variables: Any, lq: np.ndarray) -> np.ndarray:
    """sr (t, H, W, 3) uint8 of lq (t, h, w, 3) uint8."""
    return np.asarray(to_integers(restore(variables, lq[None])[0][0]))


def main() -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", help="of presets")
    parser.add_argument("--make_of", type=pathlib.Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--frames", type=pathlib.Path, nargs="*", default=[], metavar="PATH")
    parser.add_argument("--crf", type=int, nargs="*", default=[], help="constant rate factors")
    parser.add_argument("--count", type=int, help="frames of each; all if not given")
    parser.add_argument("--folder", type=pathlib.Path, default=presets.FOLDER, help="of presets")
    parser.add_argument("--pictures", type=pathlib.Path, help="folder for the middle frames")
    given = parser.parse_args()
    if given.make_of:
        make(given.names[0], given.make_of)
    rows = [row for path in given.frames for row in scores(given, path)]
    heads = ["frames", "scale", "H.264", "by", "PSNR (Y)", "SSIM (Y)", "PSNR (RGB)", "SSIM (RGB)"]
    print(reports.markdown(heads, rows))


if __name__ == "__main__":
    main()
