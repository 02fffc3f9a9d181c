"""The metrics of an evaluation protocol, and the table of their names."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping

import ml_collections
import numpy as np

from jaxvsr import metrics
from jaxvsr.console import say
from jaxvsr.data.degradations import parse_degradation
from jaxvsr.data.opening import short_name
from jaxvsr.data.sources import ClipSource
from jaxvsr.errors import InputError, suggest
from jaxvsr.weights.files import read

MAX_PSNR = 100.0  # dB. Higher scores count as this, also those of equal frames, which are infinite
# A function of sr and gt (t, h, w, 3), uint8 or float in [0, 1]: a score of each frame, or of each
# pair of neighbors (t - 1,).
Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of evaluations.

    Attributes:
        name: in tables, with its unit.
        make: function of the `eval` section of a config that returns the scorer. It raises
            InputError for settings or files by which nothing can be scored.
        lower: whether lower is better.
        whole: whether it needs all frames of a clip.
        pairs: whether its scores are of pairs of neighbors; it needs all frames, too.
    """

    name: str
    make: Callable[[ml_collections.ConfigDict], Scorer]
    lower: bool = False
    whole: bool = False
    pairs: bool = False

    @property
    def heading(self) -> str:
        """Heading in tables; an arrow down: lower is better."""
        return f"{self.name} ↓" if self.lower else self.name


def _psnr(protocol: ml_collections.ConfigDict) -> Scorer:
    chosen = protocol.crop, protocol.channel, protocol.rounded
    return lambda sr, gt: np.minimum(metrics.psnr(sr, gt, *chosen), MAX_PSNR)


def _ssim(protocol: ml_collections.ConfigDict) -> Scorer:
    crop, channel, rounded = protocol.crop, protocol.channel, protocol.rounded
    return functools.partial(metrics.ssim, crop=crop, channel=channel, quantize=rounded)


def _niqe(protocol: ml_collections.ConfigDict) -> Scorer:
    if not protocol.niqe_parameters:
        raise InputError("NIQE needs eval.niqe_parameters, a file of pristine images' statistics")
    try:
        parameters = metrics.read_niqe_parameters(protocol.niqe_parameters)
    except (OSError, ValueError) as error:
        raise InputError(f"eval.niqe_parameters: {error}") from error
    return lambda sr, gt: metrics.niqe(sr, parameters, protocol.crop)


def _lpips(protocol: ml_collections.ConfigDict) -> Scorer:
    parameters = _from_two_files(metrics.lpips_parameters, "lpips_weights", *protocol.lpips_weights)
    return functools.partial(metrics.lpips, parameters=parameters, crop=protocol.crop)


def _dists(protocol: ml_collections.ConfigDict) -> Scorer:
    parameters = _from_two_files(metrics.dists_parameters, "dists_weights", *protocol.dists_weights)
    return functools.partial(metrics.dists, parameters=parameters, crop=protocol.crop)


@functools.lru_cache(maxsize=2)  # scorers are made before a training and for each evaluation
def _from_two_files(make: Callable, field: str, network: str = "", weights: str = ""):
    """Makes parameters of files of a network and of the metric's own weights."""
    if not (network and weights):
        raise InputError(
            f"eval.{field} must name two files: torchvision's weights of the network, and the "
            "weights of the metric"
        )
    try:
        return make(read(network), read(weights))
    except ValueError as error:
        raise InputError(f"eval.{field}=({network!r}, {weights!r}): {error}") from error


def _of_motion(score: Scorer) -> Callable[[ml_collections.ConfigDict], Scorer]:
    """Makes the `make` of a metric that needs OpenCV."""

    def make(protocol: ml_collections.ConfigDict) -> Scorer:
        del protocol
        if not importlib.util.find_spec("cv2"):
            raise InputError("metrics of motion need OpenCV: pip install 'jaxvsr[metrics]'")
        return score

    return make


def _vmaf(protocol: ml_collections.ConfigDict) -> Scorer:
    if not metrics.ffmpeg_with_vmaf():
        raise InputError("VMAF needs an FFmpeg with libvmaf: pip install 'jaxvsr[vmaf]'")
    return functools.partial(metrics.vmaf, crop=protocol.crop)


# Value of `eval.best` beside the metrics: the end-point error of a flow, of `flow_errors.measure`.
EPE = "epe"
METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR (dB)", _psnr),
    "ssim": Metric("SSIM", _ssim),
    "gmsd": Metric("GMSD", lambda p: functools.partial(metrics.gmsd, crop=p.crop), lower=True),
    "niqe": Metric("NIQE", _niqe, lower=True),
    "lpips": Metric("LPIPS", _lpips, lower=True),
    "dists": Metric("DISTS", _dists, lower=True),
    "vmaf": Metric("VMAF", _vmaf, whole=True),
    "tof": Metric("tOF", _of_motion(metrics.tof), lower=True, pairs=True),
    "warping_error": Metric(
        "warping error", _of_motion(metrics.warping_error), lower=True, pairs=True
    ),
}


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


def scorers(protocol: ml_collections.ConfigDict) -> dict[str, Scorer]:
    """Returns the metrics of a protocol by name.

    Args:
        protocol: the `eval` section of a config.

    Returns:
        Scorers. NIQE's score is NaN for a frame without texture, the warping error's where no
        pixel counts; all others are finite.

    Raises:
        InputError: a metric is unknown, or its settings or files are wrong.
    """
    for name in protocol.metrics:
        if name not in METRICS:
            raise InputError(f"unknown metric {name!r} in eval.metrics{suggest(name, METRICS)}")
    return {name: METRICS[name].make(protocol) for name in protocol.metrics}


def best_score(protocol: ml_collections.ConfigDict, means: Mapping[str, float]) -> float:
    """Returns the mean of the metric `eval.best`, negated where lower is better."""
    lower = protocol.best == EPE or METRICS[protocol.best].lower
    return -means[protocol.best] if lower else means[protocol.best]
