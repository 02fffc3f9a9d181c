"""The metrics of an evaluation protocol."""

import functools
from collections.abc import Callable

import ml_collections
import numpy as np

from jaxvsr import metrics
from jaxvsr.console import say
from jaxvsr.data.degradations import parse_degradation
from jaxvsr.data.opening import short_name
from jaxvsr.data.sources import ClipSource
from jaxvsr.errors import InputError

MAX_PSNR = 100.0  # dB. Higher scores count as this, also those of equal frames, which are infinite
METRICS = ("psnr", "ssim", "gmsd", "niqe", "tof")


def degradation_of(source: ClipSource, section: ml_collections.ConfigDict) -> str:
    """Describes how inputs were degraded.

    Args:
        source: of the clips.
        section: `data` or `eval` of a config.
    """
    if not section.degradation:
        return source.degradation
    if parse_degradation(section.degradation).of_gt:
        return section.degradation
    return f"{source.degradation}, {section.degradation}"


def set_name(section: ml_collections.ConfigDict) -> str:
    """Returns the name of a data set in tags and names of files, such as "reds_reds4"."""
    return f"{short_name(section.dataset)}_{section.split}"


def warn_of_other_degradation(trained_on: str, scored: str, dataset: str) -> None:
    """Prints a warning if a model was trained on other inputs than those that are scored.

    Args:
        trained_on, scored: of `degradation_of`.
        dataset: whose clips are scored.
    """
    if scored != trained_on:
        say(
            f"warning: the model was trained on inputs degraded by {trained_on!r}, {dataset} is "
            f"degraded by {scored!r}: scores drop (between two kinds of BD by 10 dB)"
        )


def scorers(protocol: ml_collections.ConfigDict) -> dict[str, Callable]:
    """Returns the metrics of a protocol by name.

    Args:
        protocol: the `eval` section of a config.

    Returns:
        Functions of sr and gt (t, h, w, 3), uint8 or float in [0, 1], that return a score for each
        frame; NIQE's is NaN for a frame without texture, all others are finite.

    Raises:
        InputError: eval.niqe_parameters cannot be read.
    """
    crop, channel, rounded = protocol.crop, protocol.channel, protocol.rounded
    by_name: dict[str, Callable] = {
        "psnr": lambda sr, gt: np.minimum(metrics.psnr(sr, gt, crop, channel, rounded), MAX_PSNR),
        "ssim": functools.partial(metrics.ssim, crop=crop, channel=channel, quantize=rounded),
        "gmsd": functools.partial(metrics.gmsd, crop=crop),
        "tof": metrics.tof,
    }
    if "niqe" in protocol.metrics:
        try:
            parameters = metrics.read_niqe_parameters(protocol.niqe_parameters)
        except (OSError, ValueError) as error:
            raise InputError(f"eval.niqe_parameters: {error}") from error
        by_name["niqe"] = lambda sr, gt: metrics.niqe(sr, parameters, crop)
    return {metric: by_name[metric] for metric in protocol.metrics}
