"""The training loop, and the step that it repeats."""

import functools
import json
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from jaxvsr import config as configs
from jaxvsr import evaluate, flops, losses, models, sharding, tracing
from jaxvsr.checkpoints import Checkpoints
from jaxvsr.data import pipeline
from jaxvsr.data.degradations import device
from jaxvsr.data.sources import TFDSClips
from jaxvsr.errors import InputError
from jaxvsr.optimizer import make_optimizer
from jaxvsr.progress import Progress, say
from jaxvsr.reports import Evaluation
from jaxvsr.restore import make_restorer, seen_by
from jaxvsr.state import TrainState, Weights, initial_state, variables
from jaxvsr.summaries import Summaries, make_workdir
from jaxvsr.weights import from_file, spynet_from_torch
from jaxvsr.weights.files import read

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def make_loss(
    model: nn.Module, loss: ml_collections.ConfigDict, noise: Sequence[float] = ()
) -> Callable:
    """What is minimised.

    Args:
        model: the network.
        loss: the section of a config.
        noise: lowest and highest level of Gaussian noise that is added to lq, on 0..255: of each
            sample another one, all as often; (): none.

    Returns:
        A function of params, batch_stats, batch ("lq", "gt" uint8) and rng that gives the loss ()
        and, beside it, the new batch_stats and the metrics.
    """

    def compute(params: Any, batch_stats: Any, batch: Batch, rng: jax.Array):
        lq, gt = (batch[key].astype(jnp.float32) / 255 for key in ("lq", "gt"))
        if noise:
            rng, level_rng, noise_rng = jax.random.split(rng, 3)
            low, high = noise
            level = jax.random.uniform(level_rng, (len(lq), 1), minval=low, maxval=high)
            level = jnp.broadcast_to(level, lq.shape[:2])
            lq = device.with_noise_map(device.add_noise(lq, level, noise_rng), level)
        rngs = dict(zip(("gumbel", "droppath"), jax.random.split(rng), strict=True))
        mutable = ["aux", "batch_stats"]
        seen = seen_by(model, lq)
        sr, changed = model.apply(
            variables(params, batch_stats), seen, train=True, rngs=rngs, mutable=mutable
        )
        frames = losses.charbonnier(loss.peak * sr, loss.peak * gt, loss.eps)
        pixel = (frames.sum(1) if loss.sum_frames else frames.mean(1)).mean()
        keep_ratio = losses.keep_ratio(changed.get("aux", {}))
        total = pixel + loss.sparsity * keep_ratio
        psnr = -10 * jnp.log10(((jnp.clip(sr, 0, 1) - gt) ** 2).mean((1, 2, 3, 4))).mean()
        metrics = {"loss": total, "pixel_loss": pixel, "keep_ratio": keep_ratio, "psnr": psnr}
        return total, (changed.get("batch_stats", {}), metrics)

    return compute


def make_step(
    loss: Callable, optimizer: optax.GradientTransformation, accumulate: int, ema: float
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """One update.

    Args:
        loss: of `make_loss`.
        optimizer: of `make_optimizer`.
        accumulate: parts that a batch is computed in, one after the other.
        ema: decay of the moving average; 0 where none is kept.

    Returns:
        A function of a state and a batch that gives the next state and the metrics. Of these
        "finite" tells of the loss, and then of each tensor's gradient, whether it is finite.
    """
    gradient = jax.value_and_grad(loss, has_aux=True)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        weights = state.weights

        def add(carry: Any, inputs: Any) -> tuple[Any, Metrics]:
            batch_stats, total = carry
            (_, (batch_stats, metrics)), grads = gradient(weights.params, batch_stats, *inputs)
            return (batch_stats, jax.tree.map(jnp.add, total, grads)), metrics

        # A part takes samples of every device, so that none is moved from one to another.
        parts = {
            k: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1) for k, x in batch.items()
        }
        rngs = jax.random.split(jax.random.fold_in(state.rng, state.step), accumulate)
        start = (weights.batch_stats, jax.tree.map(jnp.zeros_like, weights.params))
        (batch_stats, total), metrics = jax.lax.scan(add, start, (parts, rngs))
        grads = jax.tree.map(lambda g: g / accumulate, total)
        metrics = jax.tree.map(lambda m: m.mean(0), metrics)

        updates, opt_state = optimizer.update(grads, state.opt_state, weights.params)
        params = optax.apply_updates(weights.params, updates)
        average = optax.incremental_update(params, weights.ema, 1 - ema) if ema else {}
        metrics["grad_norm"] = optax.tree.norm(grads)
        judged = [metrics["loss"], *jax.tree.leaves(grads)]
        metrics["finite"] = jnp.stack([jnp.isfinite(x).all() for x in judged])
        weights = Weights(params=params, batch_stats=batch_stats, ema=average)
        state = state.replace(step=state.step + 1, weights=weights, opt_state=opt_state)
        return state, metrics

    return step


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Evaluation:
    """Trains a model, or goes on where a run in the folder was broken off.

    Args:
        config: every field of `jaxvsr.config.defaults`.
        workdir: of the run: checkpoints/, TensorBoard events, config.json, metrics.jsonl, images/.

    Returns:
        The scores of the best checkpoint, beside those of bicubic enlargement.

    Raises:
        InputError: what was asked for cannot be done; before any long work, if it can be known.
        FloatingPointError: the loss or a gradient is not finite.
        SystemExit: after SIGTERM, once everything is saved.
    """
    # What can be wrong is found out first.
    configs.check(config)
    configs.check_batch(config)
    model = models.create(**config.model)
    source, eval_source = open_sources(config, model)
    make_workdir(workdir)
    for difference in configs.check_fits(config, workdir):
        say(f"going on with another value than before:{difference}")
    checkpoints = Checkpoints(workdir, config.train.keep, source.degradation)
    done, steps = checkpoints.latest_step() or 0, config.train.steps
    if done >= steps:
        say(f"{workdir} holds the whole run, {done} steps: a larger train.steps goes on with it")
        return evaluate.run(config, workdir)

    mesh = sharding.make_mesh()
    optimizer, rates = make_optimizer(config.optim, config.train.steps)
    state, position = first_state(config, model, optimizer, checkpoints, mesh)
    configs.save(config, workdir)
    loss = make_loss(model, config.loss, config.data.noise)
    step = make_step(loss, optimizer, config.train.accumulate, config.optim.ema)
    step = jax.jit(step, donate_argnums=0)
    batches = pipeline.training_batches(
        config.data,
        source,
        seed=config.train.seed,
        position=position,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    score = functools.partial(
        evaluate.evaluate,
        make_restorer(model, config.eval.space),
        eval_source,
        config.eval,
        name=config.model.name,
    )

    summaries = Summaries(workdir, done)
    step_flops, peak = _step_flops(config, model, state), flops.peak() * jax.device_count()
    progress = Progress(done, steps, _judged(state.weights.params), step_flops, peak)
    if "spynet" not in state.weights.params:
        rates.pop("spynet", None)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.weights.params))
    say(
        f"{config.model.name}: {count:,} parameters, {step_flops / 1e9:,.1f} GFLOP a step on "
        f"{jax.device_count()} {jax.devices()[0].device_kind}; compiling"
    )
    memory = sharding.enough_memory("lower data.batch, raise train.accumulate or set model.remat")
    trace = tracing.traced(tracing.steps(config.train.profile_steps), workdir)
    with (
        _sigterm() as asked_to_stop,
        closing(checkpoints),
        closing(summaries),
        memory,
        trace as trace_at,
    ):
        while done < steps and not (asked_to_stop.is_set() or checkpoints.preempted(done)):
            trace_at(done, state)
            with progress.waiting("data"):
                batch = next(batches)
            state, measured = step(state, sharding.to_devices(batch, mesh))
            progress.add(measured)
            done, position = done + 1, position + config.data.batch
            if done % config.train.log_every == 0 or done == steps:
                values = progress.report()
                values |= {f"lr/{group}": float(rate(done - 1)) for group, rate in rates.items()}
                summaries.scalars(done, values)
                say(progress.line(values))
            scored = done % config.eval.every == 0 or done == steps
            if scored or done % config.train.checkpoint_every == 0:
                progress.read()  # what is not finite is neither scored nor saved
                psnr = None
                if scored:
                    with progress.paused(), suppress(evaluate.Stopped):
                        result = score(state.weights.variables, stop=asked_to_stop.is_set)
                        psnr = _record(result, config.model.name, done, summaries)
                with progress.waiting("checkpoint"):
                    checkpoints.save(state, position, psnr)
        trace_at(done, state)
        progress.read()
        checkpoints.save(state, position)
    if done < steps or asked_to_stop.is_set():
        say(f"SIGTERM: saved at step {done}, the same command goes on from there")
        sys.exit(128 + signal.SIGTERM)
    return evaluate.run(config, workdir)


def open_sources(
    config: ml_collections.ConfigDict, model: nn.Module
) -> tuple[TFDSClips, TFDSClips]:
    """What is trained on and what is evaluated; raises InputError if the model cannot take them."""
    source = TFDSClips(config.data.dataset, config.data.split, config.data.dir)
    pipeline.check(config.data, source, model.scale)
    eval_source = TFDSClips(config.eval.dataset, config.eval.split, config.data.dir)
    evaluate.check(config.eval, eval_source, model)
    if config.data.gt_frames:
        evaluate.check_chosen(config.data, "data", model, (config.data.crop // model.scale,) * 2)
    evaluate.warn_of_other_degradation(source.degradation, eval_source, config.eval.dataset)
    return source, eval_source


def first_state(
    config: ml_collections.ConfigDict,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    checkpoints: Checkpoints,
    mesh: jax.sharding.Mesh,
) -> tuple[TrainState, int]:
    """The latest checkpoint's state and position in the data, or fresh ones; on all devices."""
    init = functools.partial(
        initial_state, model, optimizer, config.train.seed, bool(config.optim.ema)
    )
    shapes = sharding.placed(jax.eval_shape(init), mesh)
    if not jax.tree.leaves(shapes.weights.params):
        raise InputError(f"model {config.model.name!r} has nothing to train: --mode=eval scores it")
    checkpoints.check_space(shapes)
    latest = checkpoints.latest_step()
    if latest is not None:
        return checkpoints.restore(shapes, latest)

    given = _given_variables(config, model, shapes.weights.params)
    everywhere = sharding.replicated(mesh)
    state = jax.jit(init, out_shardings=everywhere)()

    def filled(fresh: dict, collection: str) -> dict:
        # Each tree has arrays of its own: a step may write where its state was.
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
    """The variables that a new run does not start afresh: all, those of SpyNet, or none.

    Raises:
        InputError: there are none where the config says, or they are not this model's.
    """
    if config.train.init_from:
        path = pathlib.Path(config.train.init_from)
        say(f"starting from {path}")
        if not path.is_dir():
            return from_file(path=path, **config.model)
        asked = config.copy_and_resolve_references()
        if (path / "config.json").exists():  # how it was trained does not matter
            there = json.loads((path / "config.json").read_text())["optim"]
            for field in asked.optim.keys() & there.keys():
                value = there[field]
                asked.optim[field] = tuple(value) if isinstance(value, list) else value
        return evaluate.trained(asked, model, path)[1]
    path = config.train.spynet_weights
    if path and "spynet" not in params:
        raise InputError("train.spynet_weights is set, but the model has no SpyNet")
    if path:
        try:
            return {"params": {"spynet": spynet_from_torch(read(path))}}
        except InputError as error:
            raise InputError(f"train.spynet_weights: {error}") from error
    if "spynet" in params:
        say("SpyNet starts without weights, as the zero flow: see train.spynet_weights")
    return {}


def _record(result: Evaluation, name: str, step: int, summaries: Summaries) -> float:
    """Writes the model's scores and the picture; returns its PSNR."""
    scores = {metric: result.mean(name, metric) for metric in result.scores[name]}
    summaries.scalars(step, {f"eval/{metric}": score for metric, score in scores.items()})
    summaries.image(step, "eval", result.picture)
    return scores["psnr"]


def _step_flops(config: ml_collections.ConfigDict, model: nn.Module, state: TrainState) -> float:
    """FLOPs of a step; what is computed twice to save memory counts once."""
    if hasattr(model, "remat"):
        model = model.clone(remat=False)
    loss, weights = make_loss(model, config.loss, config.data.noise), state.weights
    batch = _batch_shapes(config.data, model.scale)
    gradient = jax.grad(loss, has_aux=True)
    return flops.count(gradient, weights.params, weights.batch_stats, batch, state.rng)


def _batch_shapes(data: ml_collections.ConfigDict, scale: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Of a whole batch."""
    whole = data.frames * (2 if data.mirror else 1)
    return {
        key: jax.ShapeDtypeStruct((data.batch, frames, side, side, 3), np.uint8)
        for key, side, frames in (
            ("lq", data.crop // scale, len(data.lq_frames) or whole),
            ("gt", data.crop, len(data.gt_frames) or whole),
        )
    }


def _judged(params: Any) -> list[str]:
    """What "finite" of a step's metrics tells of, in its order."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return ["loss", *(jax.tree_util.keystr(path, simple=True, separator="/") for path in paths)]


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """Inside, SIGTERM sets the event and does nothing else. Of several hosts' processes JAX's own
    handler takes it, so that all stop at the same step."""
    asked = threading.Event()
    if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
