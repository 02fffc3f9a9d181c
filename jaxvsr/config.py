"""The fields of a config, their defaults, and the files that hold configs."""

import ast
import difflib
import json
import pathlib
import runpy
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from jaxvsr import shipped
from jaxvsr.errors import InputError

# Fields of a model that change nothing about what a checkpoint of it holds.
SAME_WEIGHTS = (
    *("dtype", "remat", "unroll", "drop_path"),
    *("use_mask", "gating", "threshold", "keep_share", "window_masks"),
)
# Fields in which the hosts of a run may differ.
HOSTS_OWN = ("data.dir", "data.workers")


def defaults() -> ml_collections.ConfigDict:
    """Every field; the values are what the published REDS recipes share."""
    config = ml_collections.ConfigDict()
    # The model: its name, and any of its class's attributes.
    config.model = ml_collections.ConfigDict({"name": "miavsr"})

    config.data = data = ml_collections.ConfigDict()
    data.dataset = "reds"  # of TFDS, "name" or "name/config"
    data.split = "train"
    data.dir = ""  # where TFDS keeps its data sets; empty: its own default
    data.frames = 16  # of a sample
    data.crop = 256  # side of a sample, target pixels
    data.intervals = (1,)  # between the frames of a sample: one of these, each as often
    data.reverse = False  # let every other sample go backwards in time
    data.mirror = False  # append the reversed sample to itself
    data.lq_frames = ()  # numbers of the frames of a sample that are the input; (): all
    data.gt_frames = ()  # and that are the target
    data.noise = ()  # lowest and highest level of Gaussian noise to add, on 0..255; (): none
    data.batch = 24  # samples of a step, over all devices
    data.workers = 8  # processes that read, on each host; 0: threads of this one

    config.optim = optim = ml_collections.ConfigDict()
    optim.lr = 2e-4  # falls by a cosine to lr_end at the last step ...
    optim.lr_end = 1e-7
    optim.lr_steps = ()  # ... or is set to a rate after a step, ((step, rate), ...)
    optim.warmup = 0  # steps of a linear rise
    optim.b1 = 0.9
    optim.b2 = 0.99
    optim.eps = 1e-8
    optim.flow_lr_mul = 0.125  # rate of SpyNet over that of the rest; 0: never trained
    optim.fix_flow = 5000  # SpyNet trains from this iteration on, counted from 1
    optim.flow_params = ("spynet",)  # what these two are for: parts of the parameters' names
    optim.clip_norm = 0.0  # largest norm of the gradient; 0: not clipped
    optim.ema = 0.999  # decay of the moving average of the parameters; 0: none is kept

    config.loss = loss = ml_collections.ConfigDict()
    loss.eps = 1e-12  # Charbonnier's, in units of peak squared
    loss.peak = 1.0  # value of white in the loss
    loss.sum_frames = False  # sum over the frames of a sample, not mean
    loss.sparsity = 0.0  # weight of the share of computed tokens

    config.train = train = ml_collections.ConfigDict()
    train.steps = 600_000
    train.seed = 0
    train.accumulate = 1  # parts that a batch is computed in, one after the other
    train.init_from = ""  # what a new run starts from: a run's folder, or a file of weights
    train.spynet_weights = ""  # of SpyNet alone, where the rest starts afresh: a file of weights
    train.log_every = 100
    train.profile_steps = ""  # "100:110": an XProf trace of the steps after 100, up to 110
    train.checkpoint_every = 5000
    train.keep = 2  # latest checkpoints, besides the best

    config.eval = evaluation = ml_collections.ConfigDict()
    evaluation.dataset = "reds"
    evaluation.split = "reds4"
    evaluation.every = 5000  # steps
    evaluation.channel = "rgb"  # or "y"
    evaluation.crop = 0  # border that is not scored, target pixels
    evaluation.frames = ()  # numbers of the frames of a clip that are scored; (): all
    evaluation.lq_frames = ()  # of a clip that are the input, to interpolate the others; (): all
    evaluation.gt_frames = ()  # and that are the target
    evaluation.noise = 0.0  # level of Gaussian noise to add to the input, on 0..255
    evaluation.metrics = ("psnr", "ssim")  # and "gmsd", "niqe", "tof"
    evaluation.niqe_parameters = ""  # pristine images' statistics for NIQE: .npz or .mat
    evaluation.input = "plain"  # "mirror": and reversed, averaged; "repeat": the last frame twice
    evaluation.tile = (0, 0, 0)  # frames, height, width restored at once, input pixels; 0: all
    evaluation.overlap = (2, 20, 20)  # of neighbouring tiles
    evaluation.multiple = (1, 1, 1)  # which sides that are not tiled are mirrored up to
    evaluation.space = 1  # devices that share each frame, where one's memory is too small
    evaluation.clips = 0  # how many clips, from the first on; 0: all
    return config


def load_config(name: str, overrides: Mapping[str, str] | None = None) -> ml_collections.ConfigDict:
    """Loads a config.

    Args:
        name: a file and, after a colon, its variant: "configs/miavsr.py:tiny", "/my/own.py". A
            file of the user is taken first; "miavsr:tiny" and "configs/miavsr.py:tiny" find those
            that come with the package from any folder.
        overrides: field -> value as on a command line: {"model.dim": "32"}.

    Raises:
        InputError: unknown file, variant or field, or a value of another type.
    """
    file, _, variant = name.partition(":")
    get_config = _module(_find(file)).get("get_config")
    if get_config is None:
        raise InputError(f"{file} is no config: it defines no get_config()")
    try:
        config = get_config(*filter(None, [variant]))
    except ValueError as error:
        raise InputError(f"{file}: {error}") from error
    known = dict(fields(config))
    for path, text in (overrides or {}).items():
        if path not in known:
            closest = closest_field(config, path)
            raise InputError(f"no field --config.{path}; did you mean --config.{closest}?")
        try:
            config.update_from_flattened_dict({path: _parse(text, known[path])})
        except (ValueError, TypeError, SyntaxError) as error:
            raise InputError(
                f"--config.{path}={text} must be of the type of {known[path]!r}: {error}"
            ) from error
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
    """The file of a config: the user's own, else the one of that name in the package."""
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
    """Runs a config file, which may import files beside it, and those of the package."""
    own = [path.parent] if path.parent.name == "configs" else []
    shipped.make_importable("configs", *own, shipped.folder("configs"))
    return runpy.run_path(str(path))


def _parse(text: str, old: Any) -> Any:
    """A field's value as the command line has it."""
    if isinstance(old, str):
        return text
    return ast.literal_eval(text.capitalize() if isinstance(old, bool) else text)


def fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a config as ("train.steps", value)."""
    for key, value in sorted(config.items()):
        if isinstance(value, dict | ml_collections.ConfigDict):
            yield from fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def shared_fields(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The leaves, as JSON has them, in which all hosts of a run have to agree, by their names."""
    leaves = dict(fields(plain(config)))
    return {name: leaves[name] for name in leaves if name not in HOSTS_OWN}


def closest_field(config: ml_collections.ConfigDict, path: str) -> str:
    """The field that a mistyped "train.step" was probably meant to be."""
    known = [name for name, _ in fields(config)]
    return difflib.get_close_matches(path, known, n=1, cutoff=0)[0]


def unknown_variant(arg: str, *known: str) -> ValueError:
    """The error for a config's variant that does not exist."""
    closest = difflib.get_close_matches(arg, known, n=1, cutoff=0)[0]
    return ValueError(
        f"there is no variant {arg!r}, only {', '.join(known)}; the closest is {closest!r}"
    )


def save_config(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Writes config.json into a run's folder."""
    part = workdir / "config.json.part"
    part.write_text(json.dumps(plain(config), indent=2) + "\n")
    part.replace(workdir / "config.json")


def differences(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> list[str]:
    """Compares a config with that of the run in a folder.

    Args:
        config: what is asked for.
        workdir: of a run, or a folder without one.

    Returns:
        What differs and does no harm, a line a field.

    Raises:
        InputError: what is kept there is the state of another model, or of another set of
            parameter groups; its message names the differing fields.
    """
    path = workdir / "config.json"
    if not path.exists():
        return []
    there, here = dict(fields(json.loads(path.read_text()))), dict(fields(plain(config)))
    harmless: list[str] = []
    harmful: list[str] = []
    for name in sorted({*there, *here}):
        old, new = there.get(name), here.get(name)
        if old == new:
            continue
        section, _, field = name.partition(".")
        other_tree = section == "model" and field not in SAME_WEIGHTS
        other_groups = name == "optim.flow_params" or (
            name in ("optim.ema", "optim.flow_lr_mul") and bool(old) != bool(new)
        )
        line = f"  {name}: {old!r} there, {new!r} asked for"
        (harmful if other_tree or other_groups else harmless).append(line)
    if harmful:
        raise InputError(
            f"{workdir} holds another run, whose checkpoints this config cannot take over:\n"
            + "\n".join(harmful)
            + "\nName another folder, or ask for what is there."
        )
    return harmless


def plain(config: ml_collections.ConfigDict) -> dict:
    """What a config looks like in a JSON file."""
    return json.loads(config.to_json(sort_keys=True))
