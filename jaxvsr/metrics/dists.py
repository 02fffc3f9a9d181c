"""Deep image structure and texture similarity."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64

from jaxvsr.metrics.color import Frames, convert, crop_border
from jaxvsr.metrics.lpips import VGG_LAYERS
from jaxvsr.metrics.threads import by_frame
from jaxvsr.metrics.vgg import CHANNELS, VGG16, Layers, Weights, vgg_features, vgg_layers

C = 1e-6  # stabilizing constant, for values in [0, 1] and features


class DistsParameters(NamedTuple):
    """A network and the weights of its channels.

    Attributes:
        layers: of VGG16; name -> kernel, bias.
        alpha, beta: weights of texture and structure, of the frame's channels and those of five
            layers, (1475,) each.
    """

    layers: Layers
    alpha: Weights
    beta: Weights


def dists_parameters(
    network: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]
) -> DistsParameters:
    """Takes the parameters from two sets of weights.

    Args:
        network: torchvision's weights of VGG16.
        weights: the authors' "alpha" and "beta".

    Raises:
        ValueError: the weights are of other networks.
    """
    size = 3 + sum(CHANNELS)
    alpha, beta = (np.ravel(weights.get(name, ())) for name in ("alpha", "beta"))
    if alpha.size != size or beta.size != size:
        raise ValueError(f"the weights of DISTS must hold alpha and beta of {size} numbers")
    total = alpha.sum() + beta.sum()
    return DistsParameters(vgg_layers(network, VGG16), alpha / total, beta / total)


def dists(
    sr: Frames, gt: Frames, parameters: DistsParameters, crop: int = 0
) -> Float64[np.ndarray, "*n"]:
    """DISTS of each frame: the difference of structure and texture of features.

    Frames keep their size; the authors' example makes the shorter side 256 pixels.

    Args:
        sr, gt: (..., h, w, 3) RGB, uint8, or float in [0, 1], which is rounded to 8 bits.
        parameters: of `dists_parameters`.
        crop: width of the border that is not scored, pixels.

    Returns:
        (...) float64; 0 for equal frames, at most about 1.

    Raises:
        ValueError: different sizes, or frames smaller than 16x16.

    Source: Ding et al., "Image quality assessment: unifying structure and texture similarity",
        section 2; the authors' package DISTS_pytorch.
    """
    return by_frame(functools.partial(_frame, parameters=parameters, crop=crop), sr, gt, threads=1)


def _frame(sr: np.ndarray, gt: np.ndarray, parameters: DistsParameters, crop: int) -> float:
    """DISTS of a frame (h, w, 3)."""
    sr, gt = (convert(crop_border(x, crop), "rgb") for x in (sr, gt))
    with jax.default_matmul_precision("highest"):
        return float(_distance(parameters, sr, gt))


@jax.jit
def _distance(parameters: DistsParameters, sr: jax.Array, gt: jax.Array) -> jax.Array:
    frames = jnp.stack([sr, gt]).astype(jnp.float32) / 255
    features = vgg_features(parameters.layers, frames, _l2_pool)
    compared = [frames, *(jax.nn.relu(features[layer]) for layer in VGG_LAYERS)]
    textures, structures = [], []
    for x in compared:
        mean = x.mean((1, 2), keepdims=True)
        covariance = ((x[0] - mean[0]) * (x[1] - mean[1])).mean((0, 1))
        variances = ((x - mean) ** 2).mean((1, 2)).sum(0)
        mean = mean[:, 0, 0]
        textures.append((2 * mean[0] * mean[1] + C) / ((mean**2).sum(0) + C))
        structures.append((2 * covariance + C) / (variances + C))
    texture, structure = jnp.concatenate(textures), jnp.concatenate(structures)
    return (parameters.alpha * (1 - texture) + parameters.beta * (1 - structure)).sum()


def _l2_pool(x: jax.Array) -> jax.Array:
    """Halves (n, h, w, c): the root of the squares' means, weighted by a 3x3 Hann window."""
    window = jnp.array([0.25, 0.5, 0.25])
    kernel = jnp.tile((window[:, None] * window)[..., None, None], (1, 1, 1, x.shape[-1]))
    axes = ("NHWC", "HWIO", "NHWC")
    squares = jax.lax.conv_general_dilated(
        *(x**2, kernel, (2, 2), ((1, 1), (1, 1))),
        dimension_numbers=axes,
        feature_group_count=x.shape[-1],
    )
    return jnp.sqrt(squares + 1e-12)
