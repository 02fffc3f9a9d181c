"""Built-in weights: made of a run, and scored on folders of frames against bicubic enlargement.

    python benchmarks/preset.py swrn --make_of=RUN
    python benchmarks/preset.py swrn --frames FOLDER [FOLDER ...]

Frames are PNG files of gt; lq is their bicubic reduction. Scores are of 8 bits, nothing cropped,
the mean over the frames.
"""

import argparse
import json
import pathlib

import jax
import ml_collections
import numpy as np

from jaxvsr import metrics, models, presets
from jaxvsr.data.degradations import imresize
from jaxvsr.data.files import PngFrames, numbered
from jaxvsr.evaluation import reports, restoring
from jaxvsr.training.checkpoints import load_best


def make(name: str, run: pathlib.Path) -> None:
    """Writes the best weights of a run, and its config, as a preset."""
    plain = json.loads((run / "config.json").read_text())
    config = ml_collections.ConfigDict(plain)
    step, variables, _ = load_best(config, models.create(**config.model), run)
    presets.save(name, jax.device_get(variables), plain)
    print(f"{name}: step {step} of {run}")


def scores(name: str, folder: pathlib.Path) -> list[list[str]]:
    """Rows of a table: bicubic and the preset on the frames of a folder."""
    model, variables, _ = presets.load(name)
    gt = np.stack(list(PngFrames(numbered(folder))))
    height, width = (side // model.scale * model.scale for side in gt.shape[1:3])
    gt = gt[:, :height, :width]
    lq = imresize(gt, 1 / model.scale)
    sr, _ = restoring.make_restorer(model)(variables, lq[None])
    rows = []
    for by, out in (("bicubic", imresize(lq, model.scale)), (name, restoring.to_uint8(sr[0]))):
        found = [
            f"{metric(np.asarray(out), gt, 0, channel).mean():.{digits}f}"
            for channel in ("y", "rgb")
            for metric, digits in ((metrics.psnr, 2), (metrics.ssim, 4))
        ]
        rows.append([folder.name, by, *found])
    return rows


def main() -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the preset")
    parser.add_argument("--make_of", type=pathlib.Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--frames", type=pathlib.Path, nargs="*", default=[], metavar="FOLDER")
    given = parser.parse_args()
    if given.make_of:
        make(given.name, given.make_of)
    rows = [row for folder in given.frames for row in scores(given.name, folder)]
    heads = ["frames", "by", "PSNR (Y)", "SSIM (Y)", "PSNR (RGB)", "SSIM (RGB)"]
    print(reports.markdown(heads, rows))


if __name__ == "__main__":
    main()
