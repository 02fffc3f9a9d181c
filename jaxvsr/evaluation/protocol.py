"""The protocol of an evaluation: what is checked before it, and the metrics that it names."""

import functools
import importlib.util
from collections.abc import Callable

import flax.linen as nn
import jax
import ml_collections

from jaxvsr import metrics, models
from jaxvsr.console import say
from jaxvsr.data.sources import TFDSClips
from jaxvsr.errors import InputError
from jaxvsr.evaluation import tiles
from jaxvsr.evaluation.restoring import INPUTS

METRICS = ("psnr", "ssim", "gmsd", "niqe", "tof")


def check_protocol(
    protocol: ml_collections.ConfigDict, source: TFDSClips, model: nn.Module
) -> None:
    """Raises InputError if a model cannot restore the clips of a source, or they not be scored.

    Args:
        protocol: the `eval` section of a config.
        source: of the clips.
        model: the network.
    """
    if source.scale != model.scale:
        raise InputError(
            f"the data set {protocol.dataset!r} is for scale {source.scale}, the model's scale is "
            f"{model.scale}"
        )
    try:
        tiles.check(protocol.tile, protocol.overlap)
    except ValueError as error:
        raise InputError(f"eval.tile and eval.overlap: {error}") from error
    if len(protocol.multiple) != 3 or min(protocol.multiple) < 1:
        raise InputError(f"eval.multiple={protocol.multiple} must be three numbers from 1 on")
    if protocol.input not in INPUTS:
        raise InputError(f"eval.input={protocol.input!r} is none of {', '.join(INPUTS)}")
    unknown = [metric for metric in protocol.metrics if metric not in METRICS]
    if unknown or "psnr" not in protocol.metrics:
        raise InputError(
            f"eval.metrics={protocol.metrics} must hold psnr, and others of {', '.join(METRICS)}"
        )
    if "niqe" in protocol.metrics and not protocol.niqe_parameters:
        raise InputError("NIQE needs eval.niqe_parameters, a file of pristine images' statistics")
    if "tof" in protocol.metrics and (protocol.frames or protocol.gt_frames):
        raise InputError("tOF is of neighbouring frames, and needs all of them: eval.frames=()")
    if "tof" in protocol.metrics and not importlib.util.find_spec("cv2"):
        raise InputError("tOF needs OpenCV: pip install 'jaxvsr[metrics]'")
    scorers(protocol)
    shortest = min(source.clips, key=lambda clip: clip.length)
    scored = protocol.frames or protocol.gt_frames
    if max((*scored, *protocol.lq_frames), default=0) >= shortest.length:
        raise InputError(
            f"eval.frames={scored} are to be scored, but clip {shortest.name!r} has "
            f"{shortest.length} frames"
        )
    height, width = (
        min(sides) // source.scale
        for sides in zip(*((clip.height, clip.width) for clip in source.clips), strict=True)
    )
    if protocol.gt_frames:
        if protocol.input != "plain" or any(protocol.tile) or protocol.frames:
            raise InputError(
                "with eval.gt_frames whole clips are restored, and all that comes out is scored: "
                "eval.input='plain', eval.tile=(0, 0, 0) and eval.frames=() go with it"
            )
        check_chosen(protocol, "eval", model, (height, width))
        return
    try:
        lq = models.example(model, 1, height, width)
        jax.eval_shape(model.init, jax.random.key(0), lq)
    except ValueError as error:
        raise InputError(f"the data set {protocol.dataset!r} cannot be scored: {error}") from error


def check_chosen(
    section: ml_collections.ConfigDict, name: str, model: nn.Module, size: tuple[int, int]
) -> None:
    """Raises InputError unless a network makes of the chosen frames as many as are its target.

    Args:
        section: of a config, with `lq_frames` and `gt_frames`.
        name: of the section.
        model: the network.
        size: (h, w) of its input.
    """
    lq = models.example(model, len(section.lq_frames), *size)
    try:
        variables = jax.eval_shape(model.init, jax.random.key(0), lq)
        sr = jax.eval_shape(model.apply, variables, lq)
    except ValueError as error:
        raise InputError(f"{name}.lq_frames={section.lq_frames}: {error}") from error
    if sr.shape[1] != len(section.gt_frames):
        raise InputError(
            f"of {name}.lq_frames={section.lq_frames} the model makes {sr.shape[1]} frames, which "
            f"are not {name}.gt_frames={section.gt_frames}"
        )


def warn_of_other_degradation(trained_on: str, source: TFDSClips, dataset: str) -> None:
    """Says so where a model is to restore what it was not trained on."""
    if source.degradation != trained_on:
        say(
            f"warning: the model was trained on inputs made by {trained_on!r}, those of {dataset} "
            f"are made by {source.degradation!r}: a network restores what it was trained on (of "
            "two kinds of BD, about 10 dB are lost)"
        )


def scorers(protocol: ml_collections.ConfigDict) -> dict[str, Callable]:
    """Metrics as a protocol has them: each of sr and gt (t, h, w, 3) uint8, a score a frame."""
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
