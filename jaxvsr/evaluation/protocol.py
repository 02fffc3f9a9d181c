"""The metrics of an evaluation protocol."""

import functools
from collections.abc import Callable

import ml_collections

from jaxvsr import metrics
from jaxvsr.console import say
from jaxvsr.data.sources import TFDSClips
from jaxvsr.errors import InputError

METRICS = ("psnr", "ssim", "gmsd", "niqe", "tof")


def warn_of_other_degradation(trained_on: str, source: TFDSClips, dataset: str) -> None:
    """Prints a warning if the training inputs were degraded in another way than a data set's."""
    if source.degradation != trained_on:
        say(
            f"warning: the model was trained on inputs degraded by {trained_on!r}, {dataset} is "
            f"degraded by {source.degradation!r}: scores drop (between two kinds of BD by 10 dB)"
        )


def scorers(protocol: ml_collections.ConfigDict) -> dict[str, Callable]:
    """Returns the metrics of a protocol by name.

    Args:
        protocol: the `eval` section of a config.

    Returns:
        Functions of sr and gt (t, h, w, 3) uint8 that return a score for each frame.

    Raises:
        InputError: eval.niqe_parameters cannot be read.
    """
    crop, channel = protocol.crop, protocol.channel
    by_name: dict[str, Callable] = {
        "psnr": functools.partial(metrics.psnr, crop=crop, channel=channel),
        "ssim": functools.partial(metrics.ssim, crop=crop, channel=channel),
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
