"""Measures the cost of a model: parameters, GFLOPs, time and memory, here or compiled for others.

    jaxvsr profile --config=configs/miavsr.py:tiny --size=180x320
    jaxvsr profile --workdir=runs/demo --input=clip.mp4
    jaxvsr profile --compare configs/swrn.py configs/basicvsr.py:tiny --json=costs.json
    jaxvsr profile --config=configs/miavsr.py --sweep_keep=sweep.png --rounds=1
    jaxvsr profile --config=configs/swrn.py --topology=v5e:2x2 --train
    jaxvsr profile --config=configs/swrn.py --topology=h100

--config.model.unroll=2 sets a field of the config. Exit code: 0; 1 if a program does not fit the
topology; 2 if the command line or an input is wrong.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from jaxvsr import cli

    cli.start("profile")

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from jaxvsr import cli
from jaxvsr.config import chosen_name, load_config
from jaxvsr.data.files import Frames, ImageFrames, VideoFrames, numbered_frames
from jaxvsr.distributed.mesh import enough_memory, make_mesh
from jaxvsr.errors import InputError
from jaxvsr.files import json_text, write_text
from jaxvsr.preflight import create_model
from jaxvsr.profiling import mask_sweep, measuring, tables, topologies
from jaxvsr.training.checkpoints import load_best
from jaxvsr.training.initialization import initialize
from jaxvsr.training.state import initial_weights
from jaxvsr.training.step import batch_shapes
from jaxvsr.video.images import write_image

SIZE = (180, 320)  # of REDS's inputs, as in the papers' figures
FRAMES = 10
KEEP_RATIOS = (0.1, 0.3, 0.5, 0.75, 1.0)  # fractions of tokens that --sweep_keep compares


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags' values.

    Attributes:
        names: of the configs, or the folder of the run.
        overrides: field -> value of the configs.
        size: (h, w) of the input; None if not given, as for all below.
    """

    names: tuple[str, ...]
    overrides: dict[str, str]
    compare: bool
    size: tuple[int, int] | None
    frames: int | None
    batch: int | None
    workdir: pathlib.Path | None
    input: pathlib.Path | None
    rounds: int
    depth: int | None
    rows: int
    json: pathlib.Path | None
    sweep_keep: pathlib.Path | None
    topology: str | None
    train: bool


def command(name: str) -> cli.Command:
    """Describes the command "profile"."""
    values = flags.FlagValues()
    text = functools.partial(flags.DEFINE_string, flag_values=values)
    count = functools.partial(flags.DEFINE_integer, flag_values=values)
    cli.define_config(values)
    path = functools.partial(cli.define_path, default=None, values=values)
    flags.DEFINE_multi(
        cli.Path(),
        flags.ArgumentSerializer(),
        "compare",
        [],
        "FILE[:VARIANT] .... Several configs instead of --config: a table with a row each",
        flag_values=values,
    )
    text("size", None, "HEIGHTxWIDTH of the input; by default 180x320, in training the config's")
    count("frames", None, f"Frames of the clip; by default {FRAMES}, in training the config's", 1)
    count("batch", None, "Clips in a batch; by default 1, in training the config's", 1)
    text("dtype", None, "Computation dtype, float32 or bfloat16; by default the config's")
    path("workdir", text="A run's folder, to take its best weights")
    path("input", text="A video or a folder of PNG frames, to take the clip from")
    count("rounds", 5, "Number of timed calls; 0 counts operations and runs nothing", 0)
    count("depth", None, "Levels of modules in the table of layers", 1)
    count("rows", 12, "Rows of the table of layers", 1)
    path("json", text="A file to write all results to")
    path("sweep_keep", text="A PNG: plot bucketed against dense gating by the fraction kept")
    text("topology", None, "A GPU or TPUs to compile for, such as h100 or v5e:2x2: does it fit?")
    flags.DEFINE_bool(
        "train", False, "With --topology: compile the training step", flag_values=values
    )
    return cli.Command(__doc__, main, values, open_ended=True, failure=2)


def main(value: dict[str, Any], *more: str) -> int:
    """Runs the command with the values of its flags; returns the exit code."""
    options = _options(value, more)
    if options.topology:
        return _compile(options, options.topology)
    subjects = [_subject(name, options) for name in options.names]
    if options.sweep_keep:
        subjects = [_with_masks(subjects[0])]
    with enough_memory("lower --frames, --batch or --size"):
        profiles = measuring.profile(subjects, options.rounds)
        swept = _sweep(subjects[0], options.rounds) if options.sweep_keep else []
    if options.compare:
        print(tables.comparison(profiles))
    else:
        print(tables.report(profiles[0], options.depth, options.rows))
    found = {"device": jax.devices()[0].device_kind, "models": [tables.plain(p) for p in profiles]}
    if options.sweep_keep:
        print("\nBucketed gating over dense gating, with the same masks in every block:\n")
        print(mask_sweep.table(swept))
        print(f"\n{write_image(options.sweep_keep, mask_sweep.chart(swept))}")
        found["sweep_keep"] = [dataclasses.asdict(row) for row in swept]
    _write(options.json, found)
    return 0


def _options(value: dict[str, Any], more: tuple[str, ...]) -> Options:
    """Parses and checks the flags' values; raises InputError for wrong combinations."""
    if bool(value["config"] or value["workdir"]) == bool(value["compare"]):
        raise InputError("give one of --config, --workdir and --compare")
    if more and not value["compare"]:
        raise InputError(f"unexpected argument {more[0]!r}; give several configs after --compare")
    for name, others in (
        ("compare", ("topology", "workdir", "sweep_keep")),
        ("topology", ("workdir", "input", "sweep_keep")),
    ):
        for other in others:
            if value[name] and value[other]:
                raise InputError(f"--{name} and --{other} cannot be combined")
    if value["train"] and not value["topology"]:
        raise InputError(
            "--train needs --topology; jaxvsr train prints the cost of a step on this machine"
        )
    if value["sweep_keep"] and value["rounds"] == 0:
        raise InputError("--sweep_keep times calls: --rounds must be at least 1")
    if value["dtype"] not in (None, "float32", "bfloat16"):
        raise InputError(f"--dtype={value['dtype']} must be float32 or bfloat16")
    dtype = {"model.dtype": value["dtype"]} if value["dtype"] else {}

    def path(flag: str) -> pathlib.Path | None:
        return pathlib.Path(value[flag]) if value[flag] else None

    return Options(
        names=(*value["compare"], *more) or (chosen_name(value),),
        overrides=value["overrides"] | dtype,
        compare=bool(value["compare"]),
        size=cli.parse_size(value["size"]) if value["size"] else None,
        frames=value["frames"],
        batch=value["batch"],
        workdir=path("workdir"),
        input=path("input"),
        rounds=value["rounds"],
        depth=value["depth"],
        rows=value["rows"],
        json=path("json"),
        sweep_keep=path("sweep_keep"),
        topology=value["topology"],
        train=value["train"],
    )


def _subject(name: str, options: Options) -> measuring.Subject:
    """The model of a config, its weights and its clip."""
    config = load_config(name, options.overrides)
    model = create_model(config)
    lq, clip = _clip(options)
    variables, origin = None, "untrained"
    if options.workdir:
        step, variables, _ = load_best(config, model, options.workdir)
        variables, origin = jax.device_get(variables), f"step {step} of {options.workdir}"
    return measuring.Subject(name, model, lq, clip, variables, origin)


def _with_masks(subject: measuring.Subject) -> measuring.Subject:
    """A subject that has weights, fresh ones if it has none; raises InputError without masks."""
    if not getattr(subject.model, "use_mask", False):
        raise InputError(f"--sweep_keep: {subject.name} has no masks")
    if subject.variables is not None:
        return subject
    init = functools.partial(initial_weights, subject.model, ema=False)
    return dataclasses.replace(subject, variables=initialize(init, jax.random.key(0)).variables)


def _sweep(subject: measuring.Subject, rounds: int) -> list[mask_sweep.Row]:
    """Times a masked network, dense and bucketed, by kind of mask and fraction kept."""
    wanted = [(kind, ratio) for kind in mask_sweep.KINDS for ratio in KEEP_RATIOS]
    programs = mask_sweep.network(subject.model, subject.variables, jnp.asarray(subject.lq))
    return mask_sweep.compare(*programs, subject.lq.shape[2:4], wanted, rounds)


def _clip(options: Options) -> tuple[np.ndarray, str]:
    """The input of the models, (b, t, h, w, 3) float32, and its description."""
    batch, frames, (height, width) = options.batch or 1, options.frames, options.size or SIZE
    if not options.input:
        rng = np.random.default_rng(0)
        shape = (batch, frames or FRAMES, height, width, 3)
        return rng.random(shape, np.float32), "random noise"
    path = options.input
    try:
        source: Frames = ImageFrames(numbered_frames(path)) if path.is_dir() else VideoFrames(path)
        length, *size = source.check_files()
        height, width = options.size or size
        if length < (frames or 1) or height > size[0] or width > size[1]:
            raise ValueError(
                f"{path} has {length} frames of {size[0]}x{size[1]}, fewer or smaller than "
                f"{frames or 1} of {height}x{width}"
            )
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        count = frames or min(FRAMES, length)
        clip = np.stack([frame for frame, _ in zip(source, range(count), strict=False)])
    except (OSError, ValueError) as error:
        raise InputError(f"--input: {error}") from error
    clip = clip[:, top : top + height, left : left + width].astype(np.float32) / 255
    part = "" if [height, width] == size else f", the middle {height}x{width}"
    return np.stack([clip] * batch), f"the first {count} frames of {path}{part}"


def _compile(options: Options, topology: str) -> int:
    """Compiles for a topology and prints whether the program fits; returns the exit code."""
    jax.config.update("jax_platforms", "cpu")  # nothing runs, so JAX need not look for devices
    (name,) = options.names
    config = load_config(name, options.overrides)
    model, data = create_model(config), config.data
    mesh = make_mesh(topologies.devices(topology))
    if options.train:
        data.batch, data.frames = options.batch or data.batch, options.frames or data.frames
        lq = batch_shapes(data, model.scale, options.size)["lq"]
        clips, frames, height, width, _ = lq.shape
        size = height, width
        part = mesh.size * config.train.accumulate
    else:
        size, frames = options.size or SIZE, options.frames or FRAMES
        clips, part = options.batch or mesh.size, mesh.size
    if clips % part:
        raise InputError(
            f"--batch={clips} must be a multiple of {part}: the devices of {topology}"
            + (" times train.accumulate" if options.train else "")
        )
    try:
        if options.train:
            traced = topologies.training(config, model, mesh, size)
        else:
            traced = topologies.inference(model, mesh, clips, frames, size)
    except ValueError as error:
        raise InputError(f"{name} cannot be traced: {error}") from error
    fit = topologies.compile_for(traced, mesh)
    what = "a training step on" if options.train else "inference on"
    what += f" {clips} clips" if clips > 1 else " a clip"
    title = (
        f"{name}, {what} of {frames} frames of {size[0]}x{size[1]}, "
        f"{config.model.dtype}, on {topology}"
    )
    print(tables.fit(fit, title, clips * frames))
    _write(options.json, {"title": title, **tables.plain_fit(fit)})
    return 0 if fit.fits else 1


def _write(path: pathlib.Path | None, found: dict) -> None:
    """Writes a JSON file, whole or not at all."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json_text(found, indent=2) + "\n")
