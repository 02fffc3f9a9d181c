"""Loss of features of a network for image classification."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxvsr.errors import InputError
from jaxvsr.metrics.vgg import VGG19, Layers, vgg_features, vgg_layers
from jaxvsr.weights.files import read


def vgg(sr: jax.Array, gt: jax.Array, layers: Layers, weights: Mapping[str, float]) -> jax.Array:
    """Computes the L1 distance of features of VGG19 before their ReLU, of each frame.

    Args:
        sr, gt: (b, t, h, w, 3) RGB in [0, 1]; at least 16x16.
        layers: of `read_vgg`.
        weights: of the distances, by layer: {"conv5_4": 1.0}.

    Returns:
        (b, t) float32.

    Source: Wang et al., "ESRGAN", section 3.3; BasicSR's PerceptualLoss with criterion "l1".
    """
    shape = sr.shape[:2]
    sr, gt = (x.astype(jnp.float32).reshape(-1, *x.shape[2:]) for x in (sr, gt))
    of_sr, of_gt = vgg_features(layers, sr), vgg_features(layers, gt)
    distances = [
        weight * jnp.abs(of_sr[layer] - of_gt[layer]).mean((1, 2, 3))
        for layer, weight in weights.items()
    ]
    return jnp.stack(distances).sum(0).reshape(shape)


@functools.lru_cache(maxsize=1)  # a step is traced several times
def read_vgg(path: str) -> Layers:
    """Reads the convolutions of VGG19 from a file of torchvision's weights.

    Raises:
        InputError: no such file, or it holds other things.
    """
    try:
        return vgg_layers(read(path), VGG19)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
