"""The terms of the loss, one function each, and the table of their names.

A config names terms and their weights: `config.loss.terms = {"charbonnier": 1.0, "fft": 0.1}`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import ml_collections

from jaxvsr.errors import InputError, suggest
from jaxvsr.layers.sown import sown
from jaxvsr.training.losses.edges import sobel
from jaxvsr.training.losses.flow import end_point_error
from jaxvsr.training.losses.frequency import fft, fft_amplitude
from jaxvsr.training.losses.perceptual import read_vgg, vgg
from jaxvsr.training.losses.pixel import charbonnier, l1, mse


@dataclasses.dataclass(frozen=True)
class Seen:
    """The inputs of a term of the loss.

    Attributes:
        sr: (b, t, h, w, 3) float32, the output of the network times `loss.peak`.
        gt: the target, likewise.
        batch: the whole batch: "lq" and "gt" uint8, and other arrays of the data.
        aux: the collection of the network's sown values; `layers.sown.sown(aux, name)` finds them.
    """

    sr: jax.Array
    gt: jax.Array
    batch: dict[str, jax.Array]
    aux: Any


# Each term is a function of `Seen` and of the section `loss` of the config. It returns a value per
# frame (b, t), or an array of any other shape, whose mean counts.
TERMS: dict[str, Callable[[Seen, ml_collections.ConfigDict], jax.Array]] = {
    "charbonnier": lambda seen, loss: charbonnier(seen.sr, seen.gt, loss.eps),
    "l1": lambda seen, loss: l1(seen.sr, seen.gt),
    "mse": lambda seen, loss: mse(seen.sr, seen.gt),
    "fft": lambda seen, loss: fft(seen.sr, seen.gt),
    "fft_amplitude": lambda seen, loss: fft_amplitude(seen.sr, seen.gt),
    "sobel": lambda seen, loss: sobel(seen.sr, seen.gt),
    "epe": lambda seen, loss: end_point_error(sown(seen.aux, "flow_levels"), seen.batch),
    "vgg": lambda seen, loss: vgg(
        seen.sr / loss.peak, seen.gt / loss.peak, read_vgg(loss.vgg_weights), loss.vgg_layers
    ),
}


def values(seen: Seen, loss: ml_collections.ConfigDict) -> dict[str, jax.Array]:
    """Computes the terms of a loss, not weighted: name -> () float32.

    Args:
        seen: inputs of the terms.
        loss: the section of a config. With `sum_frames`, values of frames are added.
    """

    def mean(value: jax.Array) -> jax.Array:
        if value.ndim != 2:
            return value.mean()
        return (value.sum(1) if loss.sum_frames else value.mean(1)).mean()

    return {name: mean(TERMS[name](seen, loss)) for name, weight in loss.terms.items() if weight}


def check_terms(loss: ml_collections.ConfigDict, crop: int) -> None:
    """Raises InputError for a term that is unknown or cannot be computed.

    Args:
        loss: the section of a config.
        crop: height and width of the targets.
    """
    for name, weight in loss.terms.items():
        if name not in TERMS:
            raise InputError(f"unknown term {name!r} in loss.terms{suggest(name, TERMS)}")
        if not math.isfinite(weight):
            raise InputError(f"loss.terms.{name}={weight} must be finite")
    if not any(loss.terms.values()):
        raise InputError("loss.terms has no term with a weight: set loss.terms.charbonnier=1.0")
    if loss.terms.get("vgg"):
        _check_vgg(loss, crop)


def _check_vgg(loss: ml_collections.ConfigDict, crop: int) -> None:
    """Raises InputError unless the term vgg can be computed."""
    if crop < 16:
        raise InputError(f"data.crop={crop} must be at least 16 for the term vgg")
    if not loss.vgg_weights:
        raise InputError("the term vgg needs loss.vgg_weights, a file of torchvision's VGG19")
    try:
        known = read_vgg(loss.vgg_weights)
    except InputError as error:
        raise InputError(f"loss.vgg_weights: {error}") from error
    for layer in loss.vgg_layers:
        if layer not in known:
            raise InputError(f"unknown layer {layer!r} in loss.vgg_layers{suggest(layer, known)}")
    if not any(loss.vgg_layers.values()):
        raise InputError(
            "loss.vgg_layers has no layer with a weight: set loss.vgg_layers.conv5_4=1"
        )
