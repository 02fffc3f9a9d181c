"""Made-up clips, their protocol and a stand-in for a model, for tests of evaluation."""

import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxvsr.data.degradations import imresize
from jaxvsr.data.sources import Clip
from jaxvsr.evaluation import scoring


class Source:
    """Three clips of two sizes, made up."""

    scale = 4
    degradation = "bicubic"
    has_flow = False
    part = ""
    clips = (Clip("a", 3, 48, 64), Clip("b", 3, 48, 64), Clip("c", 2, 64, 48))

    def read(self, clip, frames):
        height, width = self.clips[clip].height, self.clips[clip].width
        rng = np.random.default_rng(clip)
        coarse = rng.integers(0, 256, (10, height // 8, width // 8, 3), np.uint8)
        gt = imresize(coarse, 8)[list(frames)]
        return {"gt": gt, "lq": imresize(gt, 1 / 4)}


def protocol(**changes):
    fields = {
        "dataset": "made up",
        "split": "val",
        "channel": "rgb",
        "crop": 0,
        "frames": (),
        "lq_frames": (),
        "gt_frames": (),
        "degradation": "",
        "noise": 0.0,
        "clips": 0,
        "every": 10,
        "metrics": ("psnr", "ssim"),
        "niqe_parameters": "",
        "rounded": True,
        "self_ensemble": False,
        "input": "plain",
        "tile": (0, 0, 0),
        "overlap": (0, 0, 0),
        "multiple": (1, 1, 1),
        "space": 1,
    }
    return ml_collections.ConfigDict(fields | changes)


def repeat_pixels(variables, lq):
    """Stands for a model: repeats pixels."""
    return jnp.repeat(jnp.repeat(lq / jnp.float32(255), 4, axis=2), 4, axis=3), None


def score(restore=repeat_pixels, **how):
    settings = protocol(**how.pop("protocol", {}))
    return scoring.evaluate(restore, Source(), settings, {"params": jnp.zeros(())}, **how)
