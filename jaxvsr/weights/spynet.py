"""SpyNet: names in BasicSR (XPixelGroup/BasicSR, archs/spynet_arch.py), and built-in weights."""

import pathlib

import numpy as np
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

from jaxvsr.weights.rules import Rules

BUILTIN_FILE = pathlib.Path(__file__).with_suffix(".safetensors")

SPYNET = Rules(
    names=(
        (
            r"level_(\d)/conv_(\d)/",
            lambda m: f"basic_module.{m[1]}.basic_module.{2 * int(m[2])}.",
        ),
        (r"kernel$", "weight"),
    ),
    unused=r"^(mean|std)$",
)


def builtin_spynet() -> dict:
    """Built-in weights of SpyNet: the subtree "spynet" of a model's parameters.

    They were trained on the exact flow of synthetic clips; the recipe, the seed and the scores are
    in spynet.json beside them.

    Returns:
        A tree of float32 NumPy arrays.

    Source: `benchmarks.train_spynet`.
    """
    halves = load_file(BUILTIN_FILE)
    tensors = {place: value.astype(np.float32) for place, value in halves.items()}
    return unflatten_dict(tensors, sep="/")["params"]
