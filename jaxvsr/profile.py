"""What a model costs: parameters, GFLOPs, time and memory, here or on TPUs that are not here.

    python -m jaxvsr.profile --config=configs/miavsr.py:tiny --size=180x320
    python -m jaxvsr.profile --compare configs/swrn.py configs/basicvsr.py:tiny --json=costs.json
    python -m jaxvsr.profile --config=configs/miavsr.py --sweep-keep --rounds=1
    python -m jaxvsr.profile --config=configs/swrn.py --topology=v5e:2x2 --train

Any field of a config can be set: --config.model.unroll=2. Exit code: 0; 1 where a program does not
fit a topology; 2 where what was asked for cannot be done.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import re
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxvsr.config import load_config
from jaxvsr.data.files import Frames, PngFrames, VideoFrames, numbered_frames
from jaxvsr.distributed.mesh import enough_memory, make_mesh
from jaxvsr.errors import InputError
from jaxvsr.preflight import create_model
from jaxvsr.profiling import mask_sweep, measuring, tables, topologies
from jaxvsr.training.state import initial_weights
from jaxvsr.training.step import batch_shapes
from jaxvsr.video.images import write_image

SIZE = (180, 320)  # of REDS's inputs, and of the field's figures
FRAMES = 10
KEPT = (0.1, 0.3, 0.5, 0.75, 1.0)  # shares of the tokens that are swept over


def main(argv: Sequence[str]) -> int:
    """Does what a command line says; returns the exit code."""
    # TensorFlow, where a run is read, need not talk about itself.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    try:
        overrides = dict(map(_override, rest))
        _check(options)
        if options.topology:
            return _compile(options, overrides)
        subjects = [_subject(name, options, overrides) for name in options.configs]
        if options.sweep_keep:
            subjects = [_to_be_swept(subjects[0])]
        with enough_memory("lower --frames, --batch or --size"):
            profiles = measuring.profile(subjects, options.rounds)
            swept = _sweep(subjects[0], options.rounds) if options.sweep_keep else []
    except InputError as error:
        parser.error(str(error))
    if options.compare:
        print(tables.comparison(profiles))
    else:
        print(tables.report(profiles[0], options.depth, options.rows))
    found = {"device": jax.devices()[0].device_kind, "models": [tables.plain(p) for p in profiles]}
    if swept:
        print("\nBucketed gating over dense, with masks that are forced upon every block:\n")
        print(mask_sweep.table(swept))
        print(f"\n{write_image(options.sweep_keep, mask_sweep.chart(swept))}")
        found["sweep_keep"] = [dataclasses.asdict(row) for row in swept]
    _write(options.json, found)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxvsr.profile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", metavar="FILE[:VARIANT]", help="the model, as main.py takes it")
    add("--compare", metavar="FILE[:VARIANT]", nargs="+", help="several: a table with a row each")
    add("--size", type=_size, help="of the input, HEIGHTxWIDTH; 180x320 if not given")
    add("--frames", type=_count, help=f"of the clip; {FRAMES}, in training the config's")
    add("--batch", type=_count, help="clips at once; 1, in training the config's")
    add("--dtype", help="of the computation, float32 or bfloat16; the config's if not given")
    add("--workdir", type=pathlib.Path, help="of a run, whose best weights are taken")
    add("--input", type=pathlib.Path, help="the clip: a video or a folder of PNG frames")
    add("--rounds", type=int, default=5, help="times that a call is timed; 0: count, run nothing")
    add("--depth", type=_count, help="levels of modules that the table of layers has")
    add("--rows", type=_count, default=12, help="layers that it has")
    add("--json", type=pathlib.Path, help="the file that receives everything, for machines")
    add(
        "--sweep-keep",
        type=pathlib.Path,
        nargs="?",
        const=pathlib.Path("sweep_keep.png"),
        metavar="PNG",
        help="bucketed against dense gating by the share of tokens kept: a table and a plot",
    )
    add("--topology", help="compile for these TPUs instead, e.g. v5e:2x2: do they suffice?")
    add("--train", action="store_true", help="with --topology: the training step")
    return parser


def _check(options: argparse.Namespace) -> None:
    """Raises InputError for what does not go together."""
    options.configs = options.compare or [options.config]
    if (options.config is None) == (options.compare is None):
        raise InputError("either --config or --compare says what is measured")
    for name, others in (
        ("compare", ("topology", "workdir", "sweep_keep")),
        ("topology", ("workdir", "input", "sweep_keep")),
    ):
        for other in others:
            if getattr(options, name) and getattr(options, other):
                other = other.replace("_", "-")
                raise InputError(f"--{name} and --{other} do not go together")
    if options.train and not options.topology:
        raise InputError("--train needs --topology: what training costs here, main.py says")
    if options.rounds < 0:
        raise InputError(f"--rounds={options.rounds} must be at least 0")
    if options.sweep_keep and options.rounds == 0:
        raise InputError("--sweep-keep times calls: --rounds must be at least 1")
    if options.dtype not in (None, "float32", "bfloat16"):
        raise InputError(f"--dtype={options.dtype} is neither float32 nor bfloat16")


def _config(
    name: str, options: argparse.Namespace, overrides: dict[str, str]
) -> ml_collections.ConfigDict:
    """A config as the command line changes it."""
    dtype = {"model.dtype": options.dtype} if options.dtype else {}
    return load_config(name, overrides | dtype)


def _subject(
    name: str, options: argparse.Namespace, overrides: dict[str, str]
) -> measuring.Subject:
    """A model of a config, its weights and its clip."""
    config = _config(name, options, overrides)
    model = create_model(config)
    lq, clip = _clip(options)
    variables, origin = None, "untrained"
    if options.workdir:
        from jaxvsr.training.checkpoints import load_best  # imported here: it needs TensorFlow

        step, variables, _ = load_best(config, model, options.workdir)
        variables, origin = jax.device_get(variables), f"step {step} of {options.workdir}"
    return measuring.Subject(name, model, lq, clip, variables, origin)


def _to_be_swept(subject: measuring.Subject) -> measuring.Subject:
    """A subject with masks and with weights, fresh ones if it has none."""
    if not getattr(subject.model, "use_mask", False):
        raise InputError(f"--sweep-keep: {subject.name} has no masks")
    if subject.variables is not None:
        return subject
    init = functools.partial(initial_weights, subject.model, ema=False)
    return dataclasses.replace(subject, variables=jax.jit(init)(jax.random.key(0)).variables)


def _sweep(subject: measuring.Subject, rounds: int) -> list[mask_sweep.Row]:
    """Times a masked network, dense and bucketed, by kinds of masks and kept shares."""
    wanted = [(kind, share) for kind in mask_sweep.KINDS for share in KEPT]
    programs = mask_sweep.network(subject.model, subject.variables, jnp.asarray(subject.lq))
    return mask_sweep.compare(*programs, subject.lq.shape[2:4], wanted, rounds)


def _clip(options: argparse.Namespace) -> tuple[np.ndarray, str]:
    """What the models are given, (b, t, h, w, 3) float32, and what it is, in words."""
    batch, frames, (height, width) = options.batch or 1, options.frames, options.size or SIZE
    if not options.input:
        rng = np.random.default_rng(0)
        shape = (batch, frames or FRAMES, height, width, 3)
        return rng.random(shape, np.float32), "random noise"
    path = options.input
    try:
        source: Frames = PngFrames(numbered_frames(path)) if path.is_dir() else VideoFrames(path)
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


def _compile(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Compiles for a topology, and says whether it fits."""
    jax.config.update("jax_platforms", "cpu")  # nothing is run, and TPUs need not be looked for
    config = _config(options.config, options, overrides)
    model, data = create_model(config), config.data
    mesh = make_mesh(topologies.devices(options.topology))
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
            f"{clips} clips cannot be divided among the {mesh.size} devices of "
            f"{options.topology} (in train.accumulate={config.train.accumulate} parts): --batch "
            f"must be a multiple of {part}"
        )
    try:
        if options.train:
            traced = topologies.training(config, model, mesh, size)
        else:
            traced = topologies.inference(model, mesh, clips, frames, size)
    except ValueError as error:
        raise InputError(f"{options.config} cannot be traced: {error}") from error
    fit = topologies.compile_for(traced, mesh)
    what = "a step on" if options.train else "restoring"
    what += f" {clips} clips" if clips > 1 else " a clip"
    title = (
        f"{options.config}, {what} of {frames} frames of {size[0]}x{size[1]}, "
        f"{config.model.dtype}, on {options.topology}"
    )
    print(tables.fit(fit, title, clips * frames))
    _write(options.json, {"title": title, **tables.plain_fit(fit)})
    return 0 if fit.fits else 1


def _override(word: str) -> tuple[str, str]:
    """--config.model.dim=32 -> ("model.dim", "32")."""
    found = re.fullmatch(r"--config\.([\w.]+)=(.*)", word)
    if not found:
        raise InputError(f"what is {word!r}? Fields of the config are set by --config.x=...")
    return found[1], found[2]


def _size(word: str) -> tuple[int, int]:
    """180x320 -> (180, 320)."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", word)
    if not found:
        raise argparse.ArgumentTypeError(f"{word!r} is no HEIGHTxWIDTH, as 180x320 is")
    return int(found[1]), int(found[2])


def _count(word: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", word):
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 1 on")
    return int(word)


def _write(path: pathlib.Path | None, found: dict) -> None:
    """Writes a JSON file, whole or not at all."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(found, indent=2) + "\n")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
