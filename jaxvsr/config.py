"""The fields of a config, their defaults, and the files that hold configs."""

import ast
import contextlib
import difflib
import json
import math
import os
import pathlib
import re
import runpy
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from jaxvsr import shipped
from jaxvsr.errors import InputError, check_like
from jaxvsr.files import read_json, write_text

# Fields of a model that do not change its parameter tree.
SAME_WEIGHTS = (
    *("dtype", "remat", "unroll", "drop_path"),
    *("use_mask", "gating", "threshold", "keep_share", "window_masks", "mask_start"),
)
BUILTIN, MOTION = "builtin", "motion"  # values of train.spynet_weights
PATHS = (
    *("data.dir", "train.init_from", "train.spynet_weights", "train.edvr_weights"),
    *("eval.niqe_parameters", "eval.lpips_weights", "eval.dists_weights", "loss.vgg_weights"),
)
# Fields that hold weights by names; a config may name others than the defaults do.
OPEN = ("loss.terms", "loss.vgg_layers")
MAX_REPEATED = 1000  # elements of a tuple on the command line
# Fields that may differ between the hosts of a run.
HOSTS_OWN = ("data.dir", "data.workers")


def defaults() -> ml_collections.ConfigDict:
    """Every field, with the values common to the official REDS recipes."""
    config = ml_collections.ConfigDict()
    # The model's name, and any field of its class.
    config.model = ml_collections.ConfigDict({"name": "miavsr"})

    config.data = data = ml_collections.ConfigDict()
    # TFDS data set, "name" or "name/config"; or two LMDB folders, "GT.lmdb,LQ.lmdb".
    data.dataset = "reds"
    data.split = "train"
    data.dir = ""  # folder of the TFDS data sets; "": TFDS's default
    data.frames = 16  # frames per sample
    data.crop = 256  # height and width of a sample, target pixels
    data.intervals = (1,)  # frame intervals, drawn uniformly per sample
    data.reverse = False  # reverse a sample in time with probability 1/2
    data.mirror = False  # append the time-reversed sample to the sample
    data.lq_frames = ()  # indices of the input frames in a sample; (): all
    data.gt_frames = ()  # indices of the target frames
    # Made of the targets while reading: "compressed(crf=(18, 35))", or any other degradation that
    # `parse_degradation` reads; "": the data set's own inputs.
    data.degradation = ""
    data.photometric = False  # change brightness, contrast, color, sharpness and noise, for flow
    data.flow = False  # read the true flow, for the term "epe" of the loss
    data.noise = ()  # range of Gaussian noise levels, on 0..255; (): no noise
    data.batch = 24  # samples per step, over all devices
    data.workers = 8  # data loading processes per host; 0: threads of the main process

    config.optim = optim = ml_collections.ConfigDict()
    optim.name = "adam"  # or another of jaxvsr.training.optimizer.OPTIMIZERS
    optim.lr = 2e-4
    # "cosine": to lr_end at the last step; "cosine_restarts": by periods and restart_weights;
    # "steps": by lr_steps; "constant"; "": "steps" if lr_steps is set, otherwise "cosine".
    optim.schedule = ""
    optim.lr_end = 1e-7
    optim.lr_steps = ()  # ((step, rate after it), ...)
    optim.periods = ()  # lengths of the cosines ...
    optim.restart_weights = ()  # ... and the factors on lr at their start
    optim.warmup = 0  # steps of linear warm-up
    optim.weight_decay = 0.0  # decoupled from the gradient, as AdamW's; not with "adam"
    optim.b1 = 0.9
    optim.b2 = 0.99
    optim.eps = 1e-8
    optim.flow_lr_mul = 0.125  # factor on SpyNet's learning rate; 0: frozen
    optim.fix_flow = 5000  # first iteration, from 1, that trains SpyNet
    optim.flow_params = ("spynet",)  # names of the parameters that these two apply to
    optim.fix_part = ""  # name of another part that trains from fix_flow on, at the full rate
    optim.clip_norm = 0.0  # clip the global gradient norm to this; 0: no clipping
    optim.ema = 0.999  # decay of the exponential moving average; 0: no average

    config.loss = loss = ml_collections.ConfigDict()
    # Weights of the terms, of the names in jaxvsr.training.losses.TERMS; 0: not computed.
    loss.terms = ml_collections.ConfigDict({"charbonnier": 1.0})
    loss.eps = 1e-12  # of the Charbonnier loss, in units of peak squared
    loss.peak = 1.0  # pixel value of white
    loss.sum_frames = False  # sum over frames instead of mean
    loss.sparsity = 0.0  # weight of the fraction of computed tokens ...
    # ... 0: all tokens cost the same, as in the paper; otherwise tokens whose mean change (of
    # normalized features, since the previous frame) exceeds this cost little.
    loss.still_change = 0.0
    loss.vgg_weights = ""  # file of torchvision's VGG19, for the term "vgg" ...
    loss.vgg_layers = ml_collections.ConfigDict({"conv5_4": 1.0})  # ... and weights of its layers

    config.train = train = ml_collections.ConfigDict()
    train.steps = 600_000
    train.seed = 0
    train.accumulate = 1  # gradient accumulation: parts per batch
    train.init_from = ""  # initial weights: a run's folder, or a file
    # Initial weights of SpyNet, for networks that have one: "builtin", a file of official weights,
    # the folder of a run of configs/spynet.py, "motion" for filters that respond to motion, from
    # which it learns, or "" for zero flow. Ignored with init_from.
    train.spynet_weights = BUILTIN
    train.edvr_weights = ""  # likewise of EDVR's feature extractor in IconVSR; "": random
    train.prune = 0.0  # fraction of each kernel's initial values that becomes and stays zero
    train.clusters = 0  # number of distinct values of each kernel, kept in training; 0: any
    train.log_every = 100
    train.profile_steps = ""  # "100:110": an XProf trace of steps 101 to 110
    train.checkpoint_every = 5000
    train.keep = 2  # latest checkpoints to keep, beside the best; at least 2 are kept

    config.eval = evaluation = ml_collections.ConfigDict()
    # --config.data.dataset=frames/... alone sets this, too, with the split "val".
    evaluation.dataset = "reds"
    evaluation.split = "reds4"
    evaluation.every = 5000  # steps between evaluations
    evaluation.channel = "rgb"  # or "y"
    evaluation.crop = 0  # border left out of the scores, target pixels
    evaluation.frames = ()  # indices of the scored frames of a clip; (): all
    evaluation.lq_frames = ()  # indices of the input frames, for interpolation; (): all
    evaluation.gt_frames = ()  # indices of the target frames
    evaluation.degradation = ""  # as data.degradation: "h264(crf=25)" compresses the inputs
    evaluation.noise = 0.0  # level of Gaussian noise added to the input, on 0..255
    evaluation.metrics = ("psnr", "ssim")  # of jaxvsr.evaluation.protocol.METRICS
    evaluation.best = "psnr"  # metric that chooses the best checkpoint
    evaluation.niqe_parameters = ""  # NIQE's statistics of pristine images: .npz or .mat
    # Files of torchvision's AlexNet or VGG16, and of the authors' weights for that network.
    evaluation.lpips_weights = ("", "")
    evaluation.dists_weights = ("", "")  # likewise: VGG16; alpha and beta
    evaluation.rounded = True  # PSNR and SSIM of 8-bit outputs; False: not rounded
    evaluation.self_ensemble = False  # mean of the outputs for 8 flips and transposes of the input
    evaluation.input = "plain"  # "mirror", "repeat": see evaluation.restoring.as_input
    evaluation.tile = (0, 0, 0)  # tile size: frames, height, width, input pixels; 0: all
    evaluation.overlap = (2, 20, 20)  # of neighboring tiles
    evaluation.multiple = (1, 1, 1)  # pad axes without tiles to multiples of these, by mirroring
    evaluation.space = 1  # devices that share each frame, to save memory
    evaluation.clips = 0  # number of clips to score, from the first; 0: all
    return config


def load_config(name: str, overrides: Mapping[str, str] | None = None) -> ml_collections.ConfigDict:
    """Loads a config.

    Args:
        name: FILE or FILE:VARIANT. "configs/miavsr.py:tiny" and "miavsr:tiny" find a file of
            the current folder or else the one of the package; "/my/own.py" is a file. Or the
            folder of a run, whose config.json is read.
        overrides: field -> value as on a command line: {"model.dim": "32"}.

    Raises:
        InputError: unknown file, variant or field, a value of another type, or a fault of the file.
    """
    saved = pathlib.Path(name) / "config.json"
    config = _from_json(saved) if saved.exists() else _from_python(name)
    known = dict(fields(config))
    for field, text in (overrides or {}).items():
        if field.rpartition(".")[0] in OPEN:
            known.setdefault(field, 0.0)
        if field not in known:
            closest = closest_field(config, field)
            raise InputError(f"no field --config.{field}; did you mean --config.{closest}?")
        try:
            value = _parse(text, known[field])
            check_like("it", value, known[field])
            with config.unlocked():
                config.update_from_flattened_dict({field: value})
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
            raise InputError(
                f"--config.{field}={text} must be of the type of {known[field]!r}: {error}"
            ) from error
    _score_own_clips(config, overrides or {})
    for name in PATHS:
        section, _, field = name.partition(".")
        path = config[section][field]
        expand = os.path.expanduser
        config[section][field] = expand(path) if isinstance(path, str) else (*map(expand, path),)
    return config


def _score_own_clips(config: ml_collections.ConfigDict, overrides: Mapping[str, str]) -> None:
    """Lets evaluation follow training to a data set of the user's own, unless it is set, too."""
    if not overrides.get("data.dataset", "").startswith("frames/"):
        return
    if not {"eval.dataset", "eval.split"} & overrides.keys():
        # The scored frames and the rule for the input belong to the benchmark of the config.
        own = {"dataset": config.data.dataset, "split": "val", "frames": (), "input": "plain"}
        config.eval.update({key: x for key, x in own.items() if f"eval.{key}" not in overrides})


def chosen_name(value: Mapping[str, Any]) -> str:
    """Returns the config that flags name for `load_config`: --config, or else the run --workdir.

    Raises:
        InputError: there is neither a config nor a run.
    """
    config, workdir = value["config"], value["workdir"]
    if not config and not (pathlib.Path(workdir) / "config.json").exists():
        raise InputError(
            f"--config is missing, and --workdir={workdir} holds no run to take it from"
        )
    return config or workdir


def chosen_config(value: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Loads the config of `chosen_name`, with the fields that the command line sets."""
    return load_config(chosen_name(value), value["overrides"])


def _from_json(path: pathlib.Path) -> ml_collections.ConfigDict:
    """Reads the config of a run; fields that are newer than the run have their defaults."""
    config, saved = defaults(), read_json(path)
    for section, values in saved.items():
        if not isinstance(values, dict):
            raise InputError(f"{path} is damaged: its section {section!r} must be a JSON object")
    for section, _, field in (name.partition(".") for name in OPEN):
        if field in saved.get(section, {}):
            config[section][field] = {}  # not to be joined with the defaults
    try:
        config.update(_with_tuples(saved))
    except (TypeError, AttributeError, ValueError) as error:  # of another type, or a wrong name
        raise InputError(f"{path} is damaged: {error}") from error
    _check_sections(str(path), config)
    return config


def _with_tuples(value: Any) -> Any:
    """Turns the lists of a JSON value into tuples, which configs have instead."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _from_python(name: str) -> ml_collections.ConfigDict:
    """Runs FILE or FILE:VARIANT."""
    file, _, variant = name.partition(":")
    if match := re.fullmatch(r"(.+\.py):?(.*)", name):  # with a colon in a folder's name, perhaps
        file, variant = match.groups()
    path = _find(file)
    get_config = _module(path).get("get_config")
    if not callable(get_config):
        raise InputError(f"{file} is no config: it defines no get_config()")
    with _explained(path):
        try:
            config = get_config(*filter(None, [variant]))
        except ValueError as error:
            raise InputError(f"{file}: {error}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise InputError(f"{file} is no config: get_config() returned {type(config).__name__}")
    _check_sections(file, config)
    return config


def shipped_variants() -> dict[str, ml_collections.ConfigDict]:
    """All variants of the configs that come with the package: {"configs/miavsr.py:tiny": ...}."""
    return {
        f"configs/{path.name}:{variant}": module["get_config"](variant)
        for path in sorted(shipped.folder("configs").glob("*.py"))
        for module in [_module(path)]
        for variant in module.get("VARIANTS", ())
    }


def _find(file: str) -> pathlib.Path:
    """Finds the file of a config: the user's own, or else the one of the package."""
    given = pathlib.Path(file)
    if given.suffix != ".py":
        given = pathlib.Path("configs") / f"{file}.py"
    installed = shipped.folder("configs") / given.name
    if given.is_file():
        return given
    if given.parent == pathlib.Path("configs") and installed.is_file():
        return installed
    names = {str(path.parent / path.name) for path in pathlib.Path("configs").glob("*.py")}
    names |= {f"configs/{path.name}" for path in installed.parent.glob("*.py")}
    near = ", ".join(difflib.get_close_matches(str(given), sorted(names), n=3, cutoff=0))
    raise InputError(f"there is no config file {file!r}; the closest are {near}")


def _module(path: pathlib.Path) -> dict[str, Any]:
    """Runs a config file; `from configs import x` finds files beside it and of the package."""
    own = [path.parent] if path.parent.name == "configs" else []
    shipped.make_importable("configs", *own, shipped.folder("configs"))
    with _explained(path):
        return runpy.run_path(str(path))


@contextlib.contextmanager
def _explained(path: pathlib.Path) -> Iterator[None]:
    """Turns any error of a config file into an InputError that names its line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        if isinstance(error, SyntaxError) and error.filename == str(path):
            lines, error = [error.lineno], SyntaxError(error.msg)
        where = f", line {lines[-1]}" if lines else ""
        raise InputError(f"{path}{where}: {type(error).__name__}: {error}") from error


def _check_sections(file: str, config: ml_collections.ConfigDict) -> None:
    """Raises InputError unless a config has every field of `defaults`, each of its type."""
    for section, known in defaults().items():
        for field, default in known.items():
            name = f"{section}.{field}"
            if field not in config.get(section, {}):
                raise InputError(f"{file} has no field {name}: start from jaxvsr.config.defaults()")
            check_like(f"{file}: {name}", config[section][field], default)
    for name in OPEN:
        section, _, field = name.partition(".")
        if not isinstance(config[section][field], ml_collections.ConfigDict):
            raise InputError(f"{file}: {name} must map names to weights, for example {{'l1': 1.0}}")
        for key, weight in config[section][field].items():
            check_like(f"{file}: {name}.{key}", weight, 0.0)


def _parse(text: str, default: Any) -> Any:
    """Parses a field's value on the command line."""
    if isinstance(default, str):
        return text
    text = text.capitalize() if isinstance(default, bool) else text.strip()
    value = _evaluated(ast.parse(text, mode="eval").body)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it must be finite")
    if type(default) is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e5
    return value


def _evaluated(node: ast.expr) -> Any:
    """A literal, in which tuples may be repeated and joined: (24,) * 7 + (48,) * 6."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        left, right = _evaluated(node.left), _evaluated(node.right)
        if isinstance(left, tuple):
            if isinstance(node.op, ast.Add):
                return left + right
            if isinstance(right, int) and right <= MAX_REPEATED:
                return left * right
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f"{ast.unparse(node)!r} is no value") from error


def fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of a config as ("train.steps", value)."""
    for key, value in sorted(config.items()):
        if isinstance(value, dict | ml_collections.ConfigDict):
            yield from fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def shared_fields(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the fields that must agree on all hosts, as JSON values by name."""
    leaves = dict(fields(plain(config)))
    return {name: leaves[name] for name in leaves if name not in HOSTS_OWN}


def closest_field(config: ml_collections.ConfigDict, path: str) -> str:
    """Returns the known field closest to a mistyped one: "train.steps" for "train.step"."""
    known = [name for name, _ in fields(config)]
    return difflib.get_close_matches(path, known, n=1, cutoff=0)[0]


def unknown_variant(arg: str, *known: str) -> ValueError:
    """Returns the error for a variant that a config does not have."""
    closest = difflib.get_close_matches(arg, known, n=1, cutoff=0)[0]
    return ValueError(
        f"there is no variant {arg!r}, only {', '.join(known)}; the closest is {closest!r}"
    )


def save_config(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Writes config.json into the folder of a run."""
    write_text(workdir / "config.json", json.dumps(plain(config), indent=2) + "\n")


def differences(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> list[str]:
    """Compares a config with the one saved in a run's folder.

    Args:
        config: the new config.
        workdir: of a run, or a folder without one.

    Returns:
        One line for each field that differs.

    Raises:
        InputError: the checkpoints there are of another model, optimizer or parameter groups; the
            message names the fields.
    """
    path = workdir / "config.json"
    if not path.exists():
        return []
    there, here = saved_fields(path), dict(fields(plain(config)))
    harmless: list[str] = []
    harmful: list[str] = []
    for name in sorted({*there, *here}):
        old, new = there.get(name), here.get(name)
        if old == new or (name == "model.prune_channels" and not (old or new)):
            continue  # runs older than that field have no value, which is the same as 0
        section, _, field = name.partition(".")
        # Of mobile networks "attention" chooses layers, of others only how they are computed.
        kernels = field == "attention" and {old, new} <= {None, "auto", "plain"}
        other_tree = section == "model" and field not in SAME_WEIGHTS and not kernels
        other_groups = name in ("optim.name", "optim.flow_params") or (
            name in ("optim.ema", "optim.flow_lr_mul") and bool(old) != bool(new)
        )
        other_groups |= name == "optim.fix_part" and (old or "") != new
        line = f"  {name}: {old!r} there, {new!r} now"
        (harmful if other_tree or other_groups else harmless).append(line)
    if harmful:
        raise InputError(
            f"{workdir} holds a run whose checkpoints do not fit this config:\n"
            + "\n".join(harmful)
            + "\nUse another --workdir, or set these fields as they are there."
        )
    return harmless


def saved_fields(path: pathlib.Path) -> dict[str, Any]:
    """Reads the fields of a run's config.json; those that did not exist then have their default.

    Raises:
        InputError: the file is missing or damaged.
    """
    saved = read_json(path)
    known = plain(defaults())
    del known["model"]
    for section, values in known.items():
        if isinstance(saved.get(section), dict):
            saved[section] = values | saved[section]
    return dict(fields(saved))


def plain(config: ml_collections.ConfigDict) -> dict:
    """Converts a config to a dict of JSON values."""
    return json.loads(config.to_json(sort_keys=True))
