"""Converts official weights into a run's folder, to score, to train on or to upscale with.

    jaxvsr convert --config=configs/basicvsr.py --source=official.pth --out=runs/official

If the weights are not of the config's model, the error names the config that they fit.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from jaxvsr import cli

    cli.start("convert")

import contextlib
import itertools
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from absl import flags

from jaxvsr import cli, weights
from jaxvsr.config import SAME_WEIGHTS, load_config, save_config, shipped_variants
from jaxvsr.console import say
from jaxvsr.errors import InputError
from jaxvsr.training.checkpoints import Checkpoints
from jaxvsr.training.state import Weights
from jaxvsr.weights.files import read
from jaxvsr.weights.rules import Match, places, some


def convert(
    config: ml_collections.ConfigDict,
    source: pathlib.Path,
    out: pathlib.Path,
    group: str = "",
    known: Callable[[], Mapping[str, ml_collections.ConfigDict]] | None = None,
) -> None:
    """Converts official weights into a run's folder and prints a summary.

    Args:
        config: of the model; it becomes the config of the run.
        source: a file in a format of `weights.files.read`.
        out: the folder to make. It gets config.json, the weights as the checkpoint of step 0, and
            weights.txt, which lists the place of every tensor.
        group: which weights of the file, as for `weights.files.read`.
        known: returns configs by name. If the weights do not fit the model, the error names the
            config that they fit.

    Raises:
        InputError: `out` exists, the file cannot be read, or its weights do not fit the model.
            Nothing is written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out={out} exists: name a new folder")
    name = config.model.name
    tensors = read(source, group, say)
    found = None
    try:
        found = weights.compare(**config.model, tensors=tensors, say=say)
        variables = jax.tree.map(jnp.asarray, found.tree())
    except ValueError as error:
        hint = ""
        if known and (found is None or found.fraction < 1):
            say("the weights do not fit the model; looking for a config that they fit")
            hint = f"\n{likely(tensors, known())}"
        raise InputError(f"{source} for model {name!r}: {error}{hint}") from error
    params, statistics = variables["params"], variables.get("batch_stats", {})
    average = params if config.optim.ema else {}
    lines = [_line(found, place) for place in found.taken]
    lines += [f"{name} -> not used by the architecture" for name in found.unused]
    _write(config, Weights(params, statistics, average), "\n".join(lines), out)
    say("\n".join(_summary(found)))
    say(
        f"{out}/weights.txt lists every tensor. Score them with jaxvsr eval --workdir={out}, train "
        f"from them with --config.train.init_from={out}"
    )


def likely(tensors: Mapping[str, Any], known: Mapping[str, ml_collections.ConfigDict]) -> str:
    """Describes which model the weights of a file probably belong to.

    Args:
        tensors: of the file.
        known: configs by name. One variant of each model ("tiny" if it exists) is compared by
            the tensor names without numbers, then all variants of the best model by names and
            shapes.
    """
    known = {
        name: config
        for name, config in known.items()
        if config.model.name in weights.TORCH | weights.TF
    }
    models: dict[str, str] = {}
    for place, config in known.items():
        if config.model.name not in models or place.endswith(":tiny"):
            models[config.model.name] = place
    kinds = {name: _similarity(known[place], tensors) for name, place in models.items()}
    best = max(kinds.values(), default=0)
    if best < 0.5:
        return "They fit no model that has a config."
    alike = {place: c for place, c in known.items() if kinds[c.model.name] == best}
    fractions: dict[str, float] = {}
    seen = []
    for place, config in alike.items():
        fields = {k: v for k, v in config.model.items() if k not in SAME_WEIGHTS}
        if fields not in seen and 1 not in fractions.values():
            seen.append(fields)
            found = _compared(config, tensors)
            fractions[place] = found.fraction if found else 0
    place = max(fractions, key=lambda place: fractions[place])
    if fractions[place] == 1:
        return f"They fit --config={place}"
    if fractions[place] > 0.5:
        return f"{fractions[place]:.0%} of them fit --config={place}"
    name = known[place].model.name
    return f"They are of model {name!r}, but of other sizes than its configs"


def _compared(config: ml_collections.ConfigDict, tensors: Mapping[str, Any]) -> Match | None:
    """Compares a file with a model; None if the file cannot hold its weights."""
    try:
        return weights.compare(**config.model, tensors=tensors)
    except ValueError:
        return None


def _similarity(config: ml_collections.ConfigDict, tensors: Mapping[str, Any]) -> float:
    """Returns the fraction of kinds of tensor names that a model and a file share."""
    found = _compared(config, tensors)
    if found is None:
        return 0
    both = {name for name, _ in (*found.taken.values(), *found.misshapen.values())}

    def kinds(names: Iterable[str]) -> set[str]:  # SpyNet is part of many models
        return {re.sub(r"\d+", "#", name) for name in names if not name.startswith("spynet.")}

    ours, theirs = kinds({*both, *found.missing.values()}), kinds({*both, *found.left_over})
    return len(ours & theirs) / max(len(ours | theirs), 1)


def _summary(found: Match) -> Iterator[str]:
    """Yields a line for each part of the model, and one for unused tensors."""
    leaves = places(found.expected)
    for part, group in itertools.groupby(leaves, key=lambda place: place.split("/")[0]):
        inside = list(group)
        count = sum(leaves[place].size for place in inside)
        yield f"{part}: {len(inside)} tensors, {count:,} parameters; {_line(found, inside[0])}"
    yield f"in all: {len(leaves)} tensors, {sum(x.size for x in leaves.values()):,} parameters"
    if found.unused:
        yield f"not used by the architecture: {len(found.unused)}: {some(found.unused)}"


def _line(found: Match, place: str) -> str:
    name, value = found.taken[place]
    return f"{name} -> {place} {value.shape}"


def _write(
    config: ml_collections.ConfigDict, weights: Weights, text: str, out: pathlib.Path
) -> None:
    """Makes the folder; if it fails, nothing is left."""
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        save_config(config, part)
        (part / "weights.txt").write_text(text + "\n")
        with contextlib.closing(Checkpoints(part, degradation="")) as checkpoints:
            checkpoints.save_weights(weights)
        part.replace(out)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--out={out} cannot be made: {reason}. Nothing is left of it") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def command(name: str) -> cli.Command:
    """Describes the command "convert"."""
    values = flags.FlagValues()
    cli.define_config(values)
    cli.define_path("source", "", "A file of official weights", values)
    text = "The folder to make: a run's, with the weights as its checkpoint"
    cli.define_path("out", "", text, values)
    text = "Which weights of the file, params or params_ema; the average by default"
    flags.DEFINE_string("group", "", text, flag_values=values)
    return cli.Command(__doc__, main, values, required=("config", "source", "out"))


def main(value: dict[str, Any]) -> None:
    """Runs the command with the values of its flags."""
    config = load_config(value["config"], value["overrides"])
    source, out = pathlib.Path(value["source"]), pathlib.Path(value["out"])
    convert(config, source, out, value["group"], shipped_variants)
