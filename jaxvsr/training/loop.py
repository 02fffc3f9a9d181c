"""The training loop: resumes from the latest checkpoint, steps, scores, saves and logs."""

import functools
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import optax

from jaxvsr import flops, models
from jaxvsr.config import BUILTIN, MOTION, load_config, save_config, saved_fields
from jaxvsr.console import say
from jaxvsr.data import pipeline
from jaxvsr.data.sources import ClipSource
from jaxvsr.distributed.mesh import (
    enough_memory,
    make_mesh,
    placed,
    replicated,
    to_all_devices,
    to_devices,
)
from jaxvsr.errors import InputError
from jaxvsr.models.mobile.base import Mobile
from jaxvsr.training import tracing
from jaxvsr.training.channels import prune_channels
from jaxvsr.training.checkpoints import Checkpoints, in_words, load_best
from jaxvsr.training.compression import compress, keep_compressed
from jaxvsr.training.initialization import initialize
from jaxvsr.training.optimizer import make_optimizer
from jaxvsr.training.state import TrainState, initial_state, not_finite
from jaxvsr.training.step import make_loss, make_step, names_of_finite, step_flops
from jaxvsr.training.summaries import Summaries
from jaxvsr.training.telemetry import Progress
from jaxvsr.weights import edvr_from_torch, from_file, spynet_from_torch
from jaxvsr.weights.files import read
from jaxvsr.weights.spynet import builtin_spynet, motion_spynet

# Scores variables at a step and logs the scores. Returns the score by `eval.best`, higher
# being better, or None if its last argument, a function, returned True, which means to stop.
Score = Callable[[Any, int, Summaries, Callable[[], bool]], float | None]


def training_loop(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    model: nn.Module,
    source: ClipSource,
    score: Score,
    degradation: str,
    signals: list[int],
) -> None:
    """Trains a model from the latest checkpoint in the folder of a run, if there is one.

    Args:
        config: every field of `jaxvsr.config.defaults`.
        workdir: of the run, which exists.
        model: of `config.model`.
        source: of the training clips.
        score: called every `eval.every` steps and after the last one.
        degradation: name of the degradation of the training inputs.
        signals: of `stop_signals`; the first one ends the training.

    Raises:
        InputError: the folder holds another run, the initial weights do not fit, or the disk or
            the memory of a device is full.
        FloatingPointError: the loss or a gradient is not finite.
        SystemExit: after SIGTERM or Ctrl-C, once everything is saved.
    """
    begin = time.perf_counter()
    checkpoints = Checkpoints(workdir, config.train.keep, degradation, config.eval.best)
    done, steps = checkpoints.latest_step() or 0, config.train.steps

    def due(step: int) -> bool:
        return step > 0 and (step % config.eval.every == 0 or step == steps)

    if done >= steps and (checkpoints.scored(done) or not due(done)):
        say(f"{workdir} holds a finished run of {done} steps: raise train.steps to continue it")
        return

    mesh = make_mesh()
    optimizer, rates = make_optimizer(config.optim, config.train.steps)
    state, position = first_state(config, model, optimizer, checkpoints, mesh)
    done = int(state.step)
    if jax.process_index() == 0:
        save_config(config, workdir)
    step = _jitted_step(config, model, optimizer)
    batches = pipeline.training_batches(
        config.data,
        source,
        seed=config.train.seed,
        position=position,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    summaries = Summaries(workdir, done)
    summaries.describe(done, config)
    work, peak = step_flops(config, model, state), flops.peak() * jax.device_count()
    names = names_of_finite(state)
    progress = Progress(done, steps, names, work, peak, begin, summaries.earlier)
    if "spynet" not in state.weights.params:
        rates.pop("spynet", None)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.weights.params))
    say(
        f"{config.model.name}: {count:,} parameters, {work / 1e9:,.1f} GFLOP a step on "
        f"{jax.device_count()} {jax.devices()[0].device_kind}; compiling"
    )
    memory = enough_memory("lower data.batch, raise train.accumulate or set model.remat")
    trace = tracing.traced(tracing.trace_steps(config.train.profile_steps), workdir)
    with (
        closing(checkpoints),
        closing(summaries),
        closing(batches),
        memory,
        trace as trace_at,
    ):

        def scores() -> float | None:
            with progress.spent("evaluation"):
                return score(state.weights.variables, done, summaries, lambda: bool(signals))

        if due(done) and not checkpoints.scored(done):  # it was stopped in the middle of that
            checkpoints.add_score(done, scores())
        while done < steps and not (signals or checkpoints.preempted(done)):
            trace_at(done, state)
            with progress.spent("data"):
                batch = next(batches)
            state, measured = step(state, to_devices(batch, mesh))
            progress.add(measured)
            done, position = done + 1, position + config.data.batch
            if done % config.train.log_every == 0 or done == steps:
                values = progress.report()
                values |= {
                    f"train/lr/{group}": float(rate(done - 1)) for group, rate in rates.items()
                }
                summaries.scalars(done, values)
                say(progress.line(values))
            if due(done) or done % config.train.checkpoint_every == 0:
                progress.read()  # raises if not finite: such a state is neither scored nor saved
                reached = scores() if due(done) else None
                with progress.spent("checkpoints"):
                    checkpoints.save(state, position, reached)
        trace_at(done, state)
        progress.read()
        with progress.spent("checkpoints"):
            checkpoints.save(state, position)
        summaries.scalars(done, progress.totals())
    say(progress.summary())
    if done < steps or signals:
        _exit_by(signals[0] if signals else signal.SIGTERM, done)


def _jitted_step(
    config: ml_collections.ConfigDict, model: nn.Module, optimizer: optax.GradientTransformation
) -> Callable:
    """Makes the training step of a config, which reuses the memory of its state."""
    loss = make_loss(model, config.loss, config.data.noise, config.data.photometric)
    optimizer = keep_compressed(optimizer, config.train.prune, config.train.clusters)
    step = make_step(loss, optimizer, config.train.accumulate, config.optim.ema)
    return jax.jit(step, donate_argnums=0)


def _exit_by(number: int, done: int) -> None:
    """Ends the process with the exit code of a signal, after a line that says how to resume."""
    name = "interrupted" if number == signal.SIGINT else "SIGTERM"
    say(f"{name}: saved at step {done}; run the same command again to resume")
    sys.exit(128 + number)


def first_state(
    config: ml_collections.ConfigDict,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    checkpoints: Checkpoints,
    mesh: jax.sharding.Mesh,
) -> tuple[TrainState, int]:
    """Returns the state and data position of the latest checkpoint, or initial ones."""
    init = jax.jit(
        functools.partial(
            initial_state, model, optimizer, config.train.seed, bool(config.optim.ema)
        )
    )
    shapes = placed(jax.eval_shape(init), mesh)
    while (latest := checkpoints.latest_step()) is not None:
        state, position = checkpoints.load(shapes, latest)
        wrong = in_words(not_finite(state))
        if not wrong:
            checkpoints.remove_damaged()
            return state, position
        checkpoints.reject(latest, wrong)

    given = _given_variables(config, model, shapes.weights.params)
    if config.train.prune or config.train.clusters:
        kept = compress(given["params"], config.train.prune, config.train.clusters)
        given = {**given, "params": kept}
    everywhere = replicated(mesh)
    state = to_all_devices(initialize(init), mesh)

    def filled(fresh: dict, collection: str) -> dict:
        # Trees must not share arrays, since a step donates its state.
        here = jax.device_get(given.get(collection, {}))
        return fresh and fresh | jax.device_put(here, everywhere, may_alias=False)

    weights = state.weights
    weights = weights.replace(
        params=filled(weights.params, "params"),
        ema=filled(weights.ema, "params"),
        batch_stats=filled(weights.batch_stats, "batch_stats"),
    )
    return state.replace(weights=weights), 0


def _given_variables(config: ml_collections.ConfigDict, model: nn.Module, params: Any) -> dict:
    """Reads the initial weights that a config names: of the whole model, of parts, or none.

    Raises:
        InputError: the file or folder does not exist, or its weights do not fit the model.
    """
    if config.train.init_from:
        return _whole_network(config, model)
    parts = _given_spynet(config) if "spynet" in params else {}
    if path := config.train.edvr_weights:
        say(f"EDVR starts from {path}")
        try:
            parts["edvr"] = edvr_from_torch(read(path, say=say), params["edvr"])
        except InputError as error:
            raise InputError(f"train.edvr_weights: {error}") from error
    return {"params": parts} if parts else {}


def _given_spynet(config: ml_collections.ConfigDict) -> dict:
    """Reads SpyNet's initial weights: {"spynet": parameters}, or {} for zero flow."""
    path = config.train.spynet_weights
    if not path:
        say("SpyNet has no initial weights and estimates zero flow: see train.spynet_weights")
        return {}
    say(f"SpyNet starts from {'built-in weights' if path == BUILTIN else path}")
    try:
        return {"spynet": _spynet(path, config.train.seed)}
    except InputError as error:
        raise InputError(f"train.spynet_weights: {error}") from error


def _spynet(path: str, seed: int) -> Any:
    """Reads or makes the parameters of SpyNet that `train.spynet_weights` names."""
    if path == BUILTIN:
        return builtin_spynet()
    if path == MOTION:
        return motion_spynet(seed)
    if not pathlib.Path(path).is_dir():
        return spynet_from_torch(read(path, say=say))
    run = load_config(path)
    _, variables, _ = load_best(run, models.create(**run.model), pathlib.Path(path))
    if "spynet" not in variables["params"]:
        raise InputError(f"the network in {path} has no SpyNet: name a run of configs/spynet.py")
    return variables["params"]["spynet"]


def _whole_network(config: ml_collections.ConfigDict, model: nn.Module) -> dict:
    """Reads `train.init_from`, and prunes the channels that the network lacks."""
    path, like = pathlib.Path(config.train.init_from), config.copy_and_resolve_references()
    say(f"starting from {path}")
    like.unlock()
    before = 0.0
    if isinstance(model, Mobile):
        like.model.prune_channels = before
    if not path.is_dir():
        given = from_file(path=path, say=say, **like.model)
    else:
        if (path / "config.json").exists():  # it may have been trained with other settings
            there = saved_fields(path / "config.json")
            for field in like.optim:
                value = there.get(f"optim.{field}", like.optim[field])
                like.optim[field] = tuple(value) if isinstance(value, list) else value
            if isinstance(model, Mobile):
                before = like.model.prune_channels = there.get("model.prune_channels", before)
        given = load_best(like, models.create(**like.model), path)[1]
    return prune_channels(given, model, before) if isinstance(model, Mobile) else given


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT (Ctrl-C) instead of ending the process.

    With several processes JAX's own handler of SIGTERM stays, which makes all of them stop at the
    same step, and SIGINT becomes SIGTERM.

    Yields:
        A list of the signals that have come.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note(number: int, _: Any) -> None:
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            came.append(number)

    numbers = (signal.SIGINT,) if jax.process_count() > 1 else (signal.SIGINT, signal.SIGTERM)
    before = [(number, signal.signal(number, note)) for number in numbers]
    try:
        yield came
    finally:
        for number, handler in before:
            signal.signal(number, handler)
