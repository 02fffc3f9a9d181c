"""Learned perceptual image patch similarity."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64

from jaxvsr.metrics.color import Frames, convert, crop_border
from jaxvsr.metrics.threads import by_frame
from jaxvsr.metrics.vgg import (
    VGG16,
    Layers,
    Weights,
    convolve,
    max_pool,
    normalized,
    vgg_features,
    vgg_layers,
)

# Layers of VGG16 and of AlexNet whose features, after ReLU, are compared.
VGG_LAYERS = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")
# AlexNet: layer -> index in torchvision's weights, kernel size, inputs, outputs.
ALEX_LAYERS = {
    "conv1": (0, 11, 3, 64),
    "conv2": (3, 5, 64, 192),
    "conv3": (6, 3, 192, 384),
    "conv4": (8, 3, 384, 256),
    "conv5": (10, 3, 256, 256),
}


class LpipsParameters(NamedTuple):
    """A network and the weights of its channels.

    Attributes:
        layers: of AlexNet or VGG16; name -> kernel, bias.
        heads: weights of the channels of each compared layer.
    """

    layers: Layers
    heads: tuple[Weights, ...]


def lpips_parameters(
    network: Mapping[str, np.ndarray], heads: Mapping[str, np.ndarray]
) -> LpipsParameters:
    """Takes the parameters from two sets of weights.

    Args:
        network: torchvision's weights of AlexNet or VGG16.
        heads: the authors' weights of version 0.1 for the same network: "lin0.model.1.weight".

    Raises:
        ValueError: the weights are of other networks.
    """
    first = network.get("features.0.weight")
    is_alex = first is not None and first.shape == (64, 3, 11, 11)
    layers = _alex_layers(network) if is_alex else vgg_layers(network, VGG16)
    compared = tuple(ALEX_LAYERS) if is_alex else VGG_LAYERS
    found = []
    for i, layer in enumerate(compared):
        name, shape = f"lin{i}.model.1.weight", (1, len(layers[layer][1]), 1, 1)
        head = heads.get(name)
        if head is None or head.shape != shape:
            raise ValueError(f"the weights of LPIPS must hold {name} of the shape {shape}")
        found.append(head.ravel())
    return LpipsParameters(layers, tuple(found))


def lpips(
    sr: Frames, gt: Frames, parameters: LpipsParameters, crop: int = 0
) -> Float64[np.ndarray, "*n"]:
    """LPIPS of each frame: the distance of features of a network for image classification.

    Args:
        sr, gt: (..., h, w, 3) RGB, uint8, or float in [0, 1], which is rounded to 8 bits.
        parameters: of `lpips_parameters`.
        crop: width of the border that is not scored, pixels.

    Returns:
        (...) float64 >= 0; 0 for equal frames.

    Raises:
        ValueError: different sizes, or frames smaller than 32x32.

    Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric",
        equation 1; the authors' package lpips, version 0.1 of the weights.
    """
    return by_frame(functools.partial(_frame, parameters=parameters, crop=crop), sr, gt, threads=1)


def _frame(sr: np.ndarray, gt: np.ndarray, parameters: LpipsParameters, crop: int) -> float:
    """LPIPS of a frame (h, w, 3)."""
    sr, gt = (convert(crop_border(x, crop), "rgb") for x in (sr, gt))
    if min(sr.shape[:2]) < 32:
        raise ValueError(
            f"frames of {sr.shape[0]}x{sr.shape[1]} are too small; LPIPS expects at least 32x32"
        )
    with jax.default_matmul_precision("highest"):
        return float(_distance(parameters, sr, gt))


@jax.jit
def _distance(parameters: LpipsParameters, sr: jax.Array, gt: jax.Array) -> jax.Array:
    frames = jnp.stack([sr, gt]).astype(jnp.float32) / 255
    is_alex = "conv1" in parameters.layers
    features = (_alex_features if is_alex else vgg_features)(parameters.layers, frames)
    total = jnp.zeros(())
    for layer, head in zip(ALEX_LAYERS if is_alex else VGG_LAYERS, parameters.heads, strict=True):
        x = jax.nn.relu(features[layer])
        x = x / (jnp.sqrt((x**2).sum(-1, keepdims=True)) + 1e-10)
        total += ((x[0] - x[1]) ** 2 @ head).mean()
    return total


def _alex_layers(tensors: Mapping[str, np.ndarray]) -> Layers:
    """Takes the convolutions from torchvision's weights of AlexNet."""
    layers: Layers = {}
    for layer, (index, size, inputs, outputs) in ALEX_LAYERS.items():
        kernel, bias = (tensors.get(f"features.{index}.{kind}") for kind in ("weight", "bias"))
        shape = (outputs, inputs, size, size)
        if kernel is None or bias is None or kernel.shape != shape or bias.shape != (outputs,):
            raise ValueError(
                f"it holds no weights of torchvision's AlexNet: features.{index}.weight must have "
                f"the shape {shape}"
            )
        layers[layer] = kernel.transpose(2, 3, 1, 0), bias
    return layers


def _alex_features(layers: Layers, frames: jax.Array) -> dict[str, jax.Array]:
    """Computes the outputs of AlexNet's convolutions, before their ReLU.

    Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks".
    """
    x, features = normalized(frames), {}
    for layer, (kernel, bias) in layers.items():
        if layer in ("conv2", "conv3"):
            x = max_pool(x, 3, 2)
        stride = 4 if layer == "conv1" else 1
        padding = 2 if layer in ("conv1", "conv2") else 1
        features[layer] = convolve(x, kernel, bias, stride, padding)
        x = jax.nn.relu(features[layer])
    return features
