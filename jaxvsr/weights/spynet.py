"""SpyNet: names in BasicSR (XPixelGroup/BasicSR, archs/spynet_arch.py), and built-in weights."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

from jaxvsr.models.spynet import SpyNet
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


def motion_spynet(seed: int) -> dict:
    """First weights of a SpyNet that is to be trained, each level by `_motion_energy`.

    Args:
        seed: of the random part of the weights.

    Returns:
        A tree of float32 arrays: the subtree "spynet" of a model's parameters.
    """
    frame = jnp.zeros((1, 32, 32, 3))
    params = jax.jit(SpyNet().init)(jax.random.key(seed), frame, frame)["params"]
    return {name: _motion_energy(level) for name, level in params.items()}


def _motion_energy(level: Any) -> Any:
    """First weights of a pyramid level, from which it learns at once.

    From random weights a level would first learn to ignore the frames, since their difference is
    small beside their content. Here the first layer adds and subtracts the derivative of the frames
    along 8 directions and their difference in time. The last layer but one receives the absolute
    values; the direction of motion decides which of the two is larger.

    Args:
        level: parameters of FlowRefinement, random.

    Returns:
        Parameters of the same shapes.

    Source: Adelson and Bergen, "Spatiotemporal energy models for the perception of motion", 1985.
    """
    y, x = np.mgrid[-3:4, -3:4]
    gauss = np.exp(-(x**2 + y**2) / 3)
    gauss /= gauss.sum()
    kernels = [0.3 * np.array(level[f"conv_{i}"]["kernel"]) for i in range(4)]
    kernels[0] -= kernels[0].mean((0, 1))
    for j in range(8):
        slope = -2 / 3 * (x * np.cos(np.pi * j / 8) + y * np.sin(np.pi * j / 8)) * gauss
        for i, (along, ahead) in enumerate(((1, 1), (-1, -1), (1, -1), (-1, 1))):
            for frame, sign in ((slice(0, 3), -1), (slice(3, 6), 1)):
                # Means of three colors; the difference in time is that of 2 frames.
                kernel = (along * slope / 2 + 2 * sign * ahead * gauss) / 3
                kernels[0][:, :, frame, 4 * j + i] += kernel[:, :, None]
            kernels[3][:, :, 4 * j + i, 2 * j + i // 2] += gauss
    for kernel in kernels[1:3]:
        kernel[3, 3, :32, :32] += np.eye(32)
    rest = {f"conv_{i}": {"bias": level[f"conv_{i}"]["bias"] * 0} for i in range(4)}
    return level | {
        k: v | {"kernel": jnp.asarray(kernels[i])} for i, (k, v) in enumerate(rest.items())
    }
