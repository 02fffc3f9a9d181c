"""Optical flow at low resolution: SpyNet against OpenCV's DIS and no flow.

    python -m benchmarks.flow --frames calendar --reduce=4
    python -m benchmarks.flow spynet.safetensors --frames reds/000    # weights outside the package

On the validation clips of dead_leaves/small: end-point error in pixels, of all pixels and of those
that are visible in the other frame. On folders of PNG frames: mean absolute difference, on 0..255,
between each frame and its successor warped onto it.
"""

import argparse
import pathlib
from collections.abc import Callable
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from PIL import Image
from safetensors.numpy import load_file

from jaxvsr.data.degradations import imresize
from jaxvsr.layers.warp import flow_warp
from jaxvsr.models.spynet import SpyNet
from jaxvsr.weights.spynet import BUILTIN_FILE
from tfds_builders.dead_leaves import render

CLIPS, FRAMES, SIZE = 6, 10, (256, 256)  # of dead_leaves/small, split "val"
# (n, h, w, 3) uint8 each, frames and their successors -> (n, h, w, 2), (dx, dy) in pixels.
Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]


def spynet(path: pathlib.Path) -> Flow:
    """SpyNet with the weights of a file."""
    variables = unflatten_dict(load_file(path), sep="/")
    variables = jax.tree.map(lambda x: x.astype(np.float32), variables)

    @jax.jit
    def one(ref: jax.Array, supp: jax.Array) -> jax.Array:
        ref, supp = (x[None].astype(jnp.float32) / 255 for x in (ref, supp))
        return SpyNet().apply(variables, ref, supp)[0]

    return lambda ref, supp: np.stack([one(*pair) for pair in zip(ref, supp, strict=True)])


def dis(ref: np.ndarray, supp: np.ndarray) -> np.ndarray:
    """OpenCV's DIS with its medium preset."""
    estimator: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [[cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in frames] for frames in (ref, supp)]
    return np.stack([estimator.calc(*pair, None) for pair in zip(*grey, strict=True)])


def none(ref: np.ndarray, supp: np.ndarray) -> np.ndarray:
    """No motion."""
    return np.zeros((*ref.shape[:3], 2), np.float32)


def errors(flows: dict[str, Flow]) -> list[list[str]]:
    """Rows of a table: end-point errors on dead leaves."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in flows}
    visible = []
    for index in range(CLIPS):
        clip = render.render_clip(0, "val", index, FRAMES, SIZE)
        visible.append(clip["visible_backward"][:-1] > 0)
        for name, flow in flows.items():
            estimate = flow(clip["lq"][:-1], clip["lq"][1:])
            found[name].append(np.linalg.norm(estimate - clip["flow_backward"][:-1], axis=-1))
    seen = np.concatenate(visible)
    return [
        [name, f"{np.concatenate(x).mean():.4f}", f"{np.concatenate(x)[seen].mean():.4f}"]
        for name, x in found.items()
    ]


def differences(flows: dict[str, Flow], folder: pathlib.Path, reduce: int) -> list[list[str]]:
    """Rows of a table: what remains of the difference between neighboring frames of a folder."""
    frames = np.stack([np.array(Image.open(path)) for path in sorted(folder.glob("*.png"))])
    frames = imresize(frames, 1 / reduce) if reduce > 1 else frames
    rows = []
    for name, flow in flows.items():
        motion = flow(frames[:-1], frames[1:])
        warped = flow_warp(
            jnp.asarray(frames[1:], jnp.float32), jnp.asarray(motion), padding="border"
        )
        left = float(jnp.abs(warped - frames[:-1]).mean())
        rows.append([f"{folder.name} {frames.shape[2]}x{frames.shape[1]}", name, f"{left:.3f}"])
    return rows


def main() -> None:
    """Measures the weights given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "weights",
        type=pathlib.Path,
        nargs="?",
        default=BUILTIN_FILE,
        help="safetensors; default: those of the package",
    )
    parser.add_argument("--frames", type=pathlib.Path, nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--reduce", type=int, default=1, help="frames by this first")
    given = parser.parse_args()
    flows = {"none": none, "DIS medium": dis, "SpyNet": spynet(given.weights)}
    for row in [["flow", "all", "visible"], *errors(flows)]:
        print("| " + " | ".join(row) + " |")
    for folder in given.frames:
        for row in differences(flows, folder, given.reduce):
            print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
