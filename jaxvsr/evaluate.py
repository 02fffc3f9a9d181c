"""A model over a data set: scores of frames, clips and the set, and pictures."""

import contextlib
import functools
import importlib.util
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from jaxvsr import config as configs
from jaxvsr import mask_pictures, metrics, models, pictures, sharding, tiles
from jaxvsr.checkpoints import Checkpoints
from jaxvsr.data.degradations import add_noise, imresize, with_noise_map
from jaxvsr.data.sources import TFDSClips
from jaxvsr.data.video import write_video
from jaxvsr.errors import InputError
from jaxvsr.progress import counted, say
from jaxvsr.reports import Evaluation
from jaxvsr.restore import INPUTS, Restorer, make_restorer, restore_clips, to_uint8
from jaxvsr.state import initial_weights
from jaxvsr.summaries import Summaries, make_workdir

FILM_FRAMES = 32  # of the masks' video, at most
FILM_RATE = 5  # of them a second
METRICS = ("psnr", "ssim", "gmsd", "niqe", "tof")


class Stopped(Exception):
    """The evaluation was broken off."""


def check(protocol: ml_collections.ConfigDict, source: TFDSClips, model: nn.Module) -> None:
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
    _scorers(protocol)
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


def evaluate(
    restore: Restorer,
    source: TFDSClips,
    protocol: ml_collections.ConfigDict,
    variables: Any,
    *,
    name: str = "model",
    baseline: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Scores a model. Clips go to the hosts in turn, and there to as many devices side by side.

    Args:
        restore: of `make_restorer`.
        source: of the clips.
        protocol: the `eval` section of a config.
        variables: of the model, replicated.
        name: of the model.
        baseline: whether bicubic enlargement is scored beside the model; at scale 1, the input.
        stop: asked after each clip; if it says so, there is no result.

    Returns:
        The scores of all clips, on every host; the picture is the first host's.

    Raises:
        Stopped: it was stopped.
    """
    clips = range(protocol.clips or len(source.clips))[: len(source.clips)]
    own = clips[jax.process_index() :: jax.process_count()]
    unrestored = "bicubic" if source.scale > 1 else "input"
    methods = dict.fromkeys((unrestored, name) if baseline else (name,))
    scorers = _scorers(protocol)
    scores: dict = {method: {metric: {} for metric in scorers} for method in methods}
    scored = list(protocol.frames) or slice(None)
    picture = np.zeros((0, 0, 3), np.uint8)
    restored = _restored(restore, source, protocol, variables, own)
    for i, lq, gt, sr, computed in counted(restored, len(own), "clips"):
        for method in methods:
            output = sr if method == name else imresize(lq, source.scale)
            for metric, score in scorers.items():
                scores[method][metric][source.clips[i].name] = score(output[scored], gt[scored])
        if not picture.size:
            picture = _picture(source.scale, len(gt) // 2, lq, gt, sr, computed)
        if stop():
            raise Stopped
    if jax.process_count() > 1:
        scores = _of_all_hosts(scores, [source.clips[i].name for i in clips])
    plain = configs.plain(protocol).items()
    said = {key: value for key, value in plain if key not in ("every", "space")}
    return Evaluation(said | {"degradation": source.degradation}, scores, picture)


def _of_all_hosts(scores: dict, names: list[str]) -> dict:
    """Scores of all clips, as an `Evaluation` has them, of which each host has those of its own
    clips; waits for all hosts."""
    own = [
        by_clip.get(name, ())
        for by_metric in scores.values()
        for by_clip in by_metric.values()
        for name in names
    ]
    counts = multihost_utils.process_allgather(np.array([len(frames) for frames in own]))
    table = np.zeros((len(own), counts.max()))
    for row, frames in zip(table, own, strict=True):
        row[: len(frames)] = frames
    # As integers, since JAX would round to 32 bits.
    tables = multihost_utils.process_allgather(table.view(np.uint32)).view(np.float64)
    owners = counts.argmax(0)  # the one host that has scores
    found = iter(tables[host, i, : counts[host, i]] for i, host in enumerate(owners))
    return {
        method: {metric: {name: next(found) for name in names} for metric in by_metric}
        for method, by_metric in scores.items()
    }


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Evaluation:
    """Scores the best checkpoint of a run: tables, pictures, and files of every score.

    Args:
        config: of the run; its `eval` section may be another. A model without parameters needs
            no run.
        workdir: of the run. eval/ receives the tables, images/ the pictures; both go to
            TensorBoard, too.

    Raises:
        InputError: no such run, another model's, or no data.
    """
    configs.check(config)
    model, protocol = models.create(**config.model), config.eval
    step, variables, trained_on = trained(config, model, workdir)
    if variables:
        say(f"scoring step {step} of {workdir}")
    source = TFDSClips(protocol.dataset, protocol.split, config.data.dir)
    check(protocol, source, model)
    warn_of_other_degradation(trained_on or source.degradation, source, protocol.dataset)
    make_workdir(workdir)
    restore, name = make_restorer(model, protocol.space), config.model.name
    result = evaluate(restore, source, protocol, variables, name=name, baseline=True)
    drawn = draw(restore, source, protocol, variables, result.scores[name]["psnr"])
    masks, film = draw_masks(model, source, protocol, variables)
    drawn |= masks
    with contextlib.closing(Summaries(workdir, None)) as summaries:
        publish(result, drawn, config, step, workdir, summaries)
    if film and jax.process_index() == 0:
        path = workdir / "images" / f"{_title(protocol)}_masks_{step:08d}.mp4"
        try:
            say(f"video, masks: {write_video(path, film, FILM_RATE)}")
        except InputError as error:
            say(f"no video of the masks: {error}")
    return result


def publish(
    result: Evaluation,
    drawn: dict[str, np.ndarray],
    config: ml_collections.ConfigDict,
    step: int,
    workdir: pathlib.Path,
    summaries: Summaries,
) -> None:
    """Prints scores, and writes them and the pictures into a run's folder and to TensorBoard.

    Args:
        result: of `evaluate`.
        drawn: of `draw`.
        config: whole.
        step: that was scored.
        workdir, summaries: of the run.
    """
    protocol, name = config.eval, config.model.name
    if len(result.clips) <= 40:
        say(f"\n{result.table_of_clips()}")
    say(f"\n{result.table()}\n")
    title = _title(protocol)
    means = {f"{title}/{metric}": result.mean(name, metric) for metric in protocol.metrics}
    summaries.scalars(step, means)
    if jax.process_index() == 0:
        origin = {"checkpoint": f"step {step} of {workdir}", "config": configs.plain(config)}
        path = result.save(workdir / "eval", f"{title}_{step:08d}", origin)
        say(f"scores: {path}.md, .csv, .json")
    for kind, picture in drawn.items():
        say(f"picture, {kind}: {summaries.image(step, f'{title}_{kind}', picture)}")
    say(f"curves: {sys.executable} -m tensorboard.main --logdir={workdir}")


def warn_of_other_degradation(trained_on: str, source: TFDSClips, dataset: str) -> None:
    """Says so where a model is to restore what it was not trained on."""
    if source.degradation != trained_on:
        say(
            f"warning: the model was trained on inputs made by {trained_on!r}, those of {dataset} "
            f"are made by {source.degradation!r}: a network restores what it was trained on (of "
            "two kinds of BD, about 10 dB are lost)"
        )


def draw(
    restore: Restorer,
    source: TFDSClips,
    protocol: ml_collections.ConfigDict,
    variables: Any,
    psnr: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Pictures of the frames that were scored best, median and worst, and a temporal profile.

    Args:
        restore, source, protocol, variables: as `evaluate`'s.
        psnr: clip -> score of each scored frame.

    Returns:
        "best", "median", "worst" and "profile": (h, w, 3) uint8.
    """
    names = [clip.name for clip in source.clips]
    ranked = sorted(
        (float(score), names.index(clip), protocol.frames[i] if protocol.frames else i)
        for clip, frames in psnr.items()
        for i, score in enumerate(frames)
    )
    chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
    clips = sorted({clip for _, clip, _ in chosen.values()})
    drawn = {}
    for i, lq, gt, sr, computed in _restored(restore, source, protocol, variables, clips):
        for kind, (_, clip, frame) in chosen.items():
            if clip == i:
                drawn[kind] = _picture(source.scale, frame, lq, gt, sr, computed)
        if chosen["median"][1] == i:
            drawn["profile"] = _profile(source.scale, lq, gt, sr)
    return {kind: drawn[kind] for kind in (*chosen, "profile")}


def draw_masks(
    model: nn.Module, source: TFDSClips, protocol: ml_collections.ConfigDict, variables: Any
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """What each block of a masked network computes of the first clip, or of as much of it as a
    device restores.

    Returns:
        "masks" -> a picture of the middle frame (h, w, 3) uint8, and the frames of a video; both
        empty for a network without masks.
    """
    if not getattr(model, "use_mask", False):
        return {}, []
    frames, height, width = (side or None for side in protocol.tile)
    length = min(source.clips[0].length, frames or FILM_FRAMES, FILM_FRAMES)
    height = height or source.clips[0].height // source.scale // protocol.space
    lq = source.read(0, range(length))["lq"][:, :height, :width]
    here = sharding.make_mesh(jax.local_devices()[:1])
    masks = mask_pictures.masks_of(model, sharding.replicate_here(variables, here), lq)
    film = [mask_pictures.draw_frame(masks, lq, t) for t in range(length)]
    return {"masks": mask_pictures.draw_blocks(masks, lq, length // 2)}, film


def _title(protocol: ml_collections.ConfigDict) -> str:
    """What a data set's files are called by."""
    return f"{protocol.dataset}_{protocol.split}".replace("/", "_")


def trained(
    config: ml_collections.ConfigDict, model: nn.Module, workdir: pathlib.Path
) -> tuple[int, Any, str]:
    """The best checkpoint of a run.

    Args:
        config: of the run.
        model: as the config has it. One without parameters needs no run.
        workdir: of the run.

    Returns:
        The checkpoint's step, the variables for `model.apply`, the name of the degradation that
        they were trained on, "" if it is not known.

    Raises:
        InputError: no run or no checkpoint there, or another model's.
    """
    init = functools.partial(initial_weights, model, ema=bool(config.optim.ema))
    shapes = sharding.placed(jax.eval_shape(init, jax.random.key(0)), sharding.make_mesh())
    if not jax.tree.leaves(shapes):
        return 0, {}, ""
    if not (workdir / "config.json").exists():
        raise InputError(f"{workdir} holds no run: train one there first")
    configs.check_fits(config, workdir)
    with contextlib.closing(Checkpoints(workdir)) as checkpoints:
        step = checkpoints.best_step()
        if step is None:
            raise InputError(f"{workdir} holds no checkpoint yet")
        variables = checkpoints.restore_weights(shapes, step).variables
        return step, variables, checkpoints.degradation(step)


def _scorers(protocol: ml_collections.ConfigDict) -> dict[str, Callable]:
    """Metrics as a protocol has them: each of sr and gt (t, h, w, 3) uint8, a score a frame."""
    crop, channel = protocol.crop, protocol.channel
    scorers: dict[str, Callable] = {
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
        scorers["niqe"] = lambda sr, gt: metrics.niqe(sr, parameters, crop)
    return {metric: scorers[metric] for metric in protocol.metrics}


def _restored(
    restore: Restorer,
    source: TFDSClips,
    protocol: ml_collections.ConfigDict,
    variables: Any,
    clips: Iterable[int],
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Restores clips by a protocol.

    Yields:
        Of each: its number, lq, gt and sr (t, h, w, 3) uint8, and the share of blocks that
        computed each token (t, h, w), or None. Where frames are interpolated, lq is the input
        nearest to each.
    """

    def read(i: int) -> tuple[np.ndarray, tuple[int, dict[str, np.ndarray]]]:
        frames = source.read(i, range(source.clips[i].length))
        lq = frames["lq"]
        if protocol.noise:
            # Drawn for the whole clip, whose tiles must agree, and as published the same for every
            # clip; neither rounded nor clipped, but for the pictures.
            lq = add_noise(lq, protocol.noise, np.random.default_rng(0))
            frames["lq"] = to_uint8(lq)
            lq = with_noise_map(lq, protocol.noise)
        if protocol.gt_frames:
            inputs, targets = np.array(protocol.lq_frames), np.array(protocol.gt_frames)
            nearest = inputs[np.abs(inputs - targets[:, None]).argmin(1)]
            lq, frames = lq[inputs], {"lq": frames["lq"][nearest], "gt": frames["gt"][targets]}
        return lq, (i, frames)

    restored = restore_clips(
        restore,
        variables,
        map(read, clips),
        rule=protocol.input,
        tile=tuple(protocol.tile),
        overlap=tuple(protocol.overlap),
        multiple=tuple(protocol.multiple),
        space=protocol.space,
    )
    for (i, frames), sr, computed in restored:
        yield i, frames["lq"], frames["gt"], sr, computed


def _picture(
    scale: int,
    t: int,
    lq: np.ndarray,
    gt: np.ndarray,
    sr: np.ndarray,
    computed: np.ndarray | None,
) -> np.ndarray:
    """Frame t of a clip: input, bicubic, sr, gt and, laid over it, where blocks computed."""
    enlarged = {"bicubic": imresize(lq[t], scale)} if scale > 1 else {}
    panels = {"input": pictures.enlarge(lq[t], scale), **enlarged, "sr": sr[t], "gt": gt[t]}
    if computed is not None:
        share = pictures.enlarge(computed[t], scale)
        panels[f"computed: {computed[t].mean():.0%}"] = pictures.heat(share, panels["input"])
    return pictures.side_by_side(panels)


def _profile(scale: int, lq: np.ndarray, gt: np.ndarray, sr: np.ndarray) -> np.ndarray:
    """The middle column of a clip's frames over time: what flickers is a ragged line there."""
    column = gt.shape[2] // 2
    marked = gt[len(gt) // 2].copy()
    marked[:, column - 1 : column + 1] = (255, 60, 0)
    wide = -(-marked.shape[1] // (2 * len(gt)))  # pixels a frame, half a frame's width in all
    unrestored = "bicubic" if scale > 1 else "input"
    clips = {unrestored: imresize(lq, scale), "sr": sr, "gt": gt}
    return pictures.side_by_side(
        {
            f"column {column}": marked,
            **{
                name: clip[:, :, column].swapaxes(0, 1).repeat(wide, axis=1)
                for name, clip in clips.items()
            },
        }
    )
