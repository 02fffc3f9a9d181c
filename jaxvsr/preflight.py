"""Checks before any long work: settings, devices, the folder of the run, data sets, disk."""

import dataclasses
import functools
import pathlib
import shutil

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from jaxvsr import models
from jaxvsr.config import BUILTIN, MOTION, closest_field, defaults, differences
from jaxvsr.console import say
from jaxvsr.data.degradations import parse_degradation
from jaxvsr.data.opening import open_clips
from jaxvsr.data.sources import ClipSource
from jaxvsr.distributed.mesh import check_devices_per_frame
from jaxvsr.errors import InputError
from jaxvsr.evaluation import mask_areas, tiles
from jaxvsr.evaluation.protocol import EPE, METRICS, scorers
from jaxvsr.evaluation.restoring import INPUTS
from jaxvsr.models.spynet import LEVELS
from jaxvsr.training.channels import check_prunable
from jaxvsr.training.checkpoints import LEAST_KEPT
from jaxvsr.training.losses import check_terms
from jaxvsr.training.optimizer import check_optimizer, make_optimizer
from jaxvsr.training.state import initial_state
from jaxvsr.training.tracing import trace_steps

TRIED = 192  # height and width of frames on which metrics are tried, without a border
FLOW_MULTIPLE = 2 ** (LEVELS - 1)  # of the inputs' height and width, for the levels of SpyNet


@dataclasses.dataclass(frozen=True)
class Opened:
    """The model and data sets that the checks opened.

    Attributes:
        model: the network of `config.model`.
        eval_source: clips to score.
        source: clips to train on; None in an evaluation.
    """

    model: nn.Module
    eval_source: ClipSource
    source: ClipSource | None = None


def preflight(config: ml_collections.ConfigDict, workdir: pathlib.Path, *, train: bool) -> Opened:
    """Checks everything that can be known before a training or an evaluation starts.

    Args:
        config: every field of `jaxvsr.config.defaults`.
        workdir: of the run; to train, it need not exist.
        train: whether the model is trained before it is scored.

    Raises:
        InputError: a setting, the folder, a data set or the disk is not suitable.
    """
    model = create_model(config)
    check_settings(config)
    if train:
        check_batch(config)
        check_given_weights(config, model, workdir)
    check_run(config, model, workdir, train)
    source = None
    if train:
        source = open_clips(config.data.dataset, config.data.split, config.data.dir)
        check_samples(config.data, source, model)
    eval_source = open_clips(config.eval.dataset, config.eval.split, config.data.dir)
    check_clips(config.eval, eval_source, model)
    if train:
        check_true_flow(config.eval.best == EPE, config.eval.dataset, eval_source)
        check_disk(config, model, workdir)
    return Opened(model, eval_source, source)


def create_model(config: ml_collections.ConfigDict) -> nn.Module:
    """Makes the network of a config; raises InputError for an unknown name, field or choice."""
    try:
        model = models.create(**config.model)
    except ValueError as error:
        own = config.model.name not in models.MODELS
        hint = "; a config file that registers it must be given as --config" if own else ""
        raise InputError(f"{error}{hint}") from error
    check_prunable(model)
    return model


def check_settings(config: ml_collections.ConfigDict) -> None:
    """Raises InputError for values that are wrong for any model, data set and folder."""
    note_new_fields(config)
    check_minimums(config)
    check_degradations(config)
    check_chosen_frames(config)
    check_terms(config.loss, config.data.crop)
    check_optimizer(config.optim, config.train.steps)
    check_training_settings(config)
    check_protocol(config.eval)
    check_devices_per_frame(config.eval.space, jax.local_device_count(), "eval.space")


def note_new_fields(config: ml_collections.ConfigDict) -> None:
    """Prints the fields that only code of the user's own can read; one may be misspelt."""
    known = defaults()
    for section in sorted(set(known) - {"model"}):
        for field in sorted(set(config[section]) - set(known[section])):
            name = f"{section}.{field}"
            say(
                f"note: {name} is no field of jaxvsr, only code of your own reads it; the closest "
                f"field is {closest_field(known, name)}"
            )


def check_minimums(config: ml_collections.ConfigDict) -> None:
    """Raises InputError for numbers that are too small."""
    at_least = {
        "data": {"frames": 1, "crop": 1, "batch": 1, "workers": 0},
        "train": dict.fromkeys(("steps", "accumulate", "log_every", "checkpoint_every", "keep"), 1),
        "eval": {"every": 1, "crop": 0, "clips": 0, "noise": 0},
    }
    for section, fields in at_least.items():
        for name, least in fields.items():
            value = config[section][name]
            if value < least:
                raise InputError(f"{section}.{name}={value} must be at least {least}")
    if min(config.data.intervals, default=0) < 1:
        raise InputError(f"data.intervals={config.data.intervals} must be integers >= 1")


def check_degradations(config: ml_collections.ConfigDict) -> None:
    """Raises InputError for a degradation that cannot be computed."""
    for name, section in (("data", config.data), ("eval", config.eval)):
        try:
            if section.degradation:
                parse_degradation(section.degradation, config.model.get("scale", 4))
        except InputError as error:
            raise InputError(f"{name}.degradation: {error}") from error


def check_chosen_frames(config: ml_collections.ConfigDict) -> None:
    """Raises InputError unless `lq_frames` and `gt_frames` fit each other and the sample."""
    data = config.data
    for name, section in (("data", data), ("eval", config.eval)):
        lq, gt = section.lq_frames, section.gt_frames
        if bool(lq) != bool(gt) or min((*lq, *gt), default=0) < 0:
            raise InputError(
                f"{name}.lq_frames={lq} and {name}.gt_frames={gt} must both be frame indices >= 0, "
                "or both be ()"
            )
    chosen = *data.lq_frames, *data.gt_frames
    if chosen and (data.mirror or max(chosen) >= data.frames):
        raise InputError(
            "data.lq_frames and data.gt_frames need data.mirror=False and frame indices below "
            f"data.frames={data.frames}; got index {max(chosen)}, data.mirror={data.mirror}"
        )


def check_training_settings(config: ml_collections.ConfigDict) -> None:
    """Raises InputError for wrong or contradictory settings of a training."""
    noise, train = config.data.noise, config.train
    if noise and not (len(noise) == 2 and 0 <= noise[0] <= noise[1]):
        raise InputError(f"data.noise={noise} must be two levels, the lower one first, or ()")
    trace_steps(train.profile_steps)
    check_flow(config)
    for field in ("spynet_weights", "edvr_weights"):
        if train.init_from and train[field] not in ("", BUILTIN, MOTION):
            raise InputError(
                f"train.init_from contains these weights: set it or train.{field}, not both"
            )
    check_compression(config)


def check_flow(config: ml_collections.ConfigDict) -> None:
    """Raises InputError for a training on the true flow that is impossible."""
    data, crop = config.data, config.data.crop // config.model.get("scale", 1)
    trained = bool(config.loss.terms.get("epe"))
    if (trained or config.eval.best == EPE) and config.model.name != "spynet":
        raise InputError("loss.terms.epe and eval.best='epe' need model.name='spynet'")
    if config.eval.best == EPE and not mask_areas.whole_clips(config.eval):
        raise InputError(
            "eval.best='epe' needs whole clips as they are: leave eval.tile, eval.input, "
            "eval.noise, eval.degradation, eval.gt_frames and eval.space at their defaults"
        )
    if not trained:
        return
    if not data.flow:
        raise InputError("loss.terms.epe needs data.flow=True")
    if tuple(data.intervals) != (1,) or data.frames < 2 or data.mirror or data.lq_frames:
        raise InputError(
            "loss.terms.epe needs neighboring frames: data.frames of at least 2, data.intervals="
            "(1,), data.mirror=False and data.lq_frames=()"
        )
    if crop % FLOW_MULTIPLE:
        raise InputError(
            f"loss.terms.epe needs inputs of a multiple of {FLOW_MULTIPLE} pixels, not {crop}: "
            "choose data.crop accordingly"
        )


def check_compression(config: ml_collections.ConfigDict) -> None:
    """Raises InputError for a fine-tuning of pruned or clustered kernels that is impossible."""
    train = config.train
    if not 0 <= train.prune < 1:
        raise InputError(f"train.prune={train.prune} must be a fraction, at least 0 and below 1")
    if train.clusters < 0 or train.clusters == 1:
        raise InputError(f"train.clusters={train.clusters} must be 0 (off) or at least 2")
    if not (train.prune or train.clusters):
        return
    if not train.init_from:
        raise InputError("train.prune and train.clusters fine-tune a network: set train.init_from")
    if config.model.get("reparam"):
        raise InputError("train.prune and train.clusters need model.reparam=False")


def check_protocol(protocol: ml_collections.ConfigDict) -> None:
    """Raises InputError for an `eval` section by which nothing can be scored.

    Args:
        protocol: the `eval` section of a config.
    """
    if protocol.channel not in ("rgb", "y"):
        raise InputError(f"eval.channel={protocol.channel!r} must be 'rgb' or 'y'")
    if protocol.input not in INPUTS:
        raise InputError(f"eval.input={protocol.input!r} must be one of: {', '.join(INPUTS)}")
    try:
        tiles.check_tiles(protocol.tile, protocol.overlap)
    except ValueError as error:
        raise InputError(f"eval.tile and eval.overlap: {error}") from error
    if len(protocol.multiple) != 3 or min(protocol.multiple) < 1:
        raise InputError(f"eval.multiple={protocol.multiple} must be three integers >= 1")
    if "psnr" not in protocol.metrics or protocol.best not in (*protocol.metrics, EPE):
        raise InputError(
            f"eval.metrics={protocol.metrics} must contain 'psnr' and eval.best={protocol.best!r}"
        )
    scorers(protocol)  # reads the files of metrics
    if protocol.frames or protocol.gt_frames:
        for metric in (METRICS[name] for name in protocol.metrics):
            if metric.pairs or metric.whole:
                raise InputError(
                    f"{metric.name} compares neighboring frames and needs all of them: "
                    "eval.frames=()"
                )
    if protocol.gt_frames and (protocol.input != "plain" or any(protocol.tile) or protocol.frames):
        raise InputError(
            "eval.gt_frames needs whole clips, all output frames scored: eval.input='plain', "
            "eval.tile=(0, 0, 0), eval.frames=()"
        )


def check_batch(config: ml_collections.ConfigDict) -> None:
    """Raises InputError unless the devices of all hosts can divide the batch."""
    data, train = config.data, config.train
    part = train.accumulate * jax.device_count()
    if data.batch % part:
        raise InputError(
            f"data.batch={data.batch} must be a multiple of {part}: {jax.device_count()} devices "
            f"times train.accumulate={train.accumulate}"
        )


def check_given_weights(
    config: ml_collections.ConfigDict, model: nn.Module, workdir: pathlib.Path
) -> None:
    """Raises InputError unless SpyNet's and EDVR's weights are there, where a new run needs them.

    Args:
        config: whole.
        model: the network.
        workdir: of the run.
    """
    train = config.train
    if (workdir / "config.json").exists():
        return
    parts = {  # place in the parameters: name, value, values that are no file
        "spynet": (
            "SpyNet",
            train.spynet_weights,
            {BUILTIN: "built-in", MOTION: "filters of motion", "": "zero flow"},
        ),
        "edvr": ("EDVR", train.edvr_weights, {"": "random"}),
    }
    for part, (title, path, others) in parts.items():
        if path in others:
            continue
        if not pathlib.Path(path).exists():
            also = ", or ".join(f"{value!r} ({meaning})" for value, meaning in others.items())
            also += ", or the folder of a run with SpyNet" if part == "spynet" else ""
            raise InputError(
                f"train.{part}_weights={path!r} must be a file of official weights, or {also}"
            )
        shapes = jax.eval_shape(model.init, jax.random.key(0), models.example(model))
        if part not in shapes.get("params", {}):
            raise InputError(
                f"train.{part}_weights={path!r}, but the model has no {title}: unset it"
            )


def check_run(
    config: ml_collections.ConfigDict, model: nn.Module, workdir: pathlib.Path, train: bool
) -> None:
    """Raises InputError unless the folder of a run is suitable; prints settings that have changed.

    Args:
        config: whole.
        model: the network.
        workdir: of the run. To train, it must be new or hold a run of the same model; to score,
            it must hold one.
        train: whether the model is to be trained.
    """
    has_parameters = jax.tree.leaves(
        jax.eval_shape(model.init, jax.random.key(0), models.example(model))
    )
    if train and not has_parameters:
        raise InputError(f"model {config.model.name!r} has no parameters to train: use --mode=eval")
    if not train and has_parameters and not (workdir / "config.json").exists():
        raise InputError(f"{workdir} holds no run: train one there first")
    if has_parameters:
        for difference in differences(config, workdir):
            if train:
                field = difference.split(":")[0].strip()
                if field in ("train.prune", "train.clusters"):
                    raise InputError(
                        f"{workdir} holds a run with another setting:{difference}. Zeros and "
                        "clusters are made when a run starts: use another --workdir"
                    )
                say(f"resuming with a changed setting:{difference}")


def check_samples(data: ml_collections.ConfigDict, source: ClipSource, model: nn.Module) -> None:
    """Raises InputError unless training samples can be drawn from a data set.

    Args:
        data: the `data` section of a config.
        source: of the clips.
        model: the network.
    """
    scale = model.scale
    check_scale(data.dataset, source, scale)
    if data.crop % scale:
        raise InputError(f"data.crop={data.crop} must be a multiple of the scale {scale}")
    for clip in source.clips:
        if min(clip.height, clip.width) < data.crop:
            raise InputError(
                f"clip {clip.name!r} of {data.dataset!r} is {clip.height}x{clip.width}, smaller "
                f"than the crop of {data.crop}x{data.crop}: lower data.crop"
            )
    check_true_flow(data.flow, data.dataset, source)
    longest = max(clip.length for clip in source.clips)
    if longest < data.frames * max(data.intervals):
        apart = f", {max(data.intervals)} apart" if max(data.intervals) > 1 else ""
        raise InputError(
            f"no clip of {data.dataset!r} holds data.frames={data.frames} frames{apart}; "
            f"the longest has {longest}"
        )
    if data.gt_frames:
        check_frames_of_model(data, "data", model, (data.crop // scale,) * 2)


def check_clips(protocol: ml_collections.ConfigDict, source: ClipSource, model: nn.Module) -> None:
    """Raises InputError unless a model can restore the clips of a data set and score them.

    Args:
        protocol: the `eval` section of a config.
        source: of the clips.
        model: the network.
    """
    check_scale(protocol.dataset, source, model.scale)
    shortest = min(source.clips, key=lambda clip: clip.length)
    used = *(protocol.frames or protocol.gt_frames), *protocol.lq_frames
    if min(used, default=0) < 0 or max(used, default=0) >= shortest.length:
        raise InputError(
            f"eval.frames, eval.lq_frames and eval.gt_frames name frame {max(used)}, but clip "
            f"{shortest.name!r} has {shortest.length} frames"
        )
    least_height = min(clip.height for clip in source.clips)
    least_width = min(clip.width for clip in source.clips)
    check_scores(protocol, least_height, least_width)
    size = least_height // source.scale, least_width // source.scale
    if protocol.gt_frames:
        check_frames_of_model(protocol, "eval", model, size)
        return
    try:
        lq = models.example(model, 1, *size)
        jax.eval_shape(model.init, jax.random.key(0), lq)
    except ValueError as error:
        raise InputError(f"the data set {protocol.dataset!r} cannot be scored: {error}") from error


def check_scores(protocol: ml_collections.ConfigDict, height: int, width: int) -> None:
    """Raises InputError unless each metric scores frames, by trying it on two small ones.

    Args:
        protocol: the `eval` section of a config.
        height, width: of the smallest clip's targets.
    """
    height, width = (min(side, TRIED + 2 * protocol.crop) for side in (height, width))
    gt = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    sr = gt[::-1] if protocol.rounded else gt[::-1] / np.float32(255)
    for name, score in scorers(protocol).items():
        expected = (1,) if METRICS[name].pairs else (2,)
        try:
            shape = np.shape(score(sr, gt))
        except Exception as error:  # a metric of the user's own may raise anything
            raise InputError(
                f"eval.metrics: {name} cannot score frames of {height}x{width}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if shape != expected:
            raise InputError(
                f"eval.metrics: {name} must return scores of the shape {expected} for two frames; "
                f"got {shape}"
            )


def check_true_flow(needed: bool, dataset: str, source: ClipSource) -> None:
    """Raises InputError for clips without the true flow that is needed."""
    if needed and not source.has_flow:
        raise InputError(f"the data set {dataset!r} has no true flow: use one of dead_leaves")


def check_scale(dataset: str, source: ClipSource, scale: int) -> None:
    """Raises InputError unless a data set is of a model's scale."""
    if source.scale != scale:
        raise InputError(
            f"the data set {dataset!r} has scale {source.scale}, the model has scale {scale}"
        )


def check_frames_of_model(
    section: ml_collections.ConfigDict, name: str, model: nn.Module, size: tuple[int, int]
) -> None:
    """Raises InputError unless a model maps `lq_frames` to the number of `gt_frames`.

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
            f"{name}.gt_frames={section.gt_frames} must have {sr.shape[1]} frames, the number "
            f"that the model makes of {name}.lq_frames={section.lq_frames}"
        )


def check_disk(config: ml_collections.ConfigDict, model: nn.Module, workdir: pathlib.Path) -> None:
    """Raises InputError unless the disk has space for the checkpoints that a run keeps."""
    train = config.train
    optimizer, _ = make_optimizer(config.optim, train.steps)
    init = functools.partial(initial_state, model, optimizer, train.seed, bool(config.optim.ema))
    leaves = jax.tree.leaves(jax.eval_shape(init))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    there = len([path for path in workdir.glob("checkpoints/*") if path.name.isdigit()])
    kept = max(train.keep, LEAST_KEPT) + 1  # and the best
    missing = max(kept + 1 - there, 1)  # and one that is being written
    existing = next(folder for folder in (workdir, *workdir.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < missing * size:
        raise InputError(
            f"{workdir} has {free / 2**20:.0f} MiB free; {missing} checkpoints of "
            f"{size / 2**20:.0f} MiB need {missing * size / 2**20:.0f} MiB: free some space, use "
            "another --workdir, or lower train.keep"
        )
