"""Trains SpyNet on the true flow of dead leaves for a given time, and writes its weights.

    python -m benchmarks.train_spynet --minutes=3 --out=OUT

Pairs of frames are rendered meanwhile into OUT/pairs by `--workers` processes. The learning rate
follows the clock: the same command with more minutes is a longer training. OUT gets
spynet.safetensors (float16) and spynet.json (config, seed, scores) every half minute, and
spynet.checkpoint, from which the same command resumes. Needs jax, flax, optax, safetensors, scipy
and pillow.
"""

import argparse
import collections
import dataclasses
import functools
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization, struct

from benchmarks import clip_pool, render_pairs
from jaxvsr import presets
from jaxvsr.models.spynet import LEVELS, SpyNet
from jaxvsr.training.losses.flow import HIDDEN, POWER, level_errors
from jaxvsr.training.photometric import photometric_changes
from jaxvsr.weights.spynet import motion_spynet
from tfds_builders.dead_leaves import render

SAVE_EVERY, SAY_EVERY = 30.0, 10.0  # seconds
AHEAD = 8  # steps that are dispatched before the first of them is waited for
HELD_OUT, HELD_OUT_SIZE, HELD_OUT_FRAMES = 6, (256, 256), 4  # clips of the split "val"
Pairs = dict[str, jax.Array]  # in a pool the arrays of `render_pairs.pairs`, (n, p, 2, ...)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How SpyNet is trained.

    Attributes:
        batch, crop: of a batch; crop in pixels, a multiple of 32.
        lr, lr_end: highest and last learning rate.
        warmup: fraction of the time in which it rises.
        hidden: weight of pixels that are hidden in the other frame.
        power: of the end-point error in the loss; < 1 turns attention to small errors.
        decay: largest decay of the moving average of the weights.
        clip_norm: of the gradient.
        seed: of the weights, the pairs and the batches.
    """

    batch: int = 32
    crop: int = 96
    lr: float = 4e-4
    lr_end: float = 1e-6
    warmup: float = 0.03
    hidden: float = HIDDEN
    power: float = POWER
    decay: float = 0.999
    clip_norm: float = 1.0
    seed: int = 0


class State(struct.PyTreeNode):
    """State of a training, as in its checkpoint."""

    params: Any
    average: Any
    optimizer: Any
    step: jax.Array
    seconds: float


def sample(clips: Pairs, filled: jax.Array, key: jax.Array, batch: int, crop: int) -> Pairs:
    """Draws random pairs, directions, crops, flips and transpositions.

    Args:
        clips: of a pool.
        filled: clips that there are.
        key: draws everything.
        batch: pairs, b.
        crop: pixels on each side, c.

    Returns:
        "ref" and "supp" (b, c, c, 3) in [0, 1], "flow" (b, c, c, 2) from ref to supp and "visible"
        (b, c, c), float32.
    """
    _, count, _, height, width, _ = clips["frames"].shape

    def one(key: jax.Array) -> Pairs:
        keys = jax.random.split(key, 6)
        index = jax.random.randint(keys[0], (), 0, filled)
        pair = jax.random.randint(keys[1], (), 0, count)
        way = jax.random.bernoulli(keys[2]).astype(jnp.int32)
        y = jax.random.randint(keys[3], (), 0, height - crop + 1)
        x = jax.random.randint(keys[4], (), 0, width - crop + 1)

        def cut(name: str, way: jax.Array) -> jax.Array:
            rest: Any = clips[name].shape[5:]
            start: Any = (index, pair, way, y, x, *(0 for _ in rest))
            size = (1, 1, 1, crop, crop, *rest)
            return jax.lax.dynamic_slice(clips[name], start, size)[0, 0, 0].astype(jnp.float32)

        flips = jax.random.bernoulli(keys[5], shape=(3,))
        out = {
            "ref": cut("frames", way) / 255,
            "supp": cut("frames", 1 - way) / 255,
            "flow": cut("flow", way),
            "visible": cut("visible", way),
        }
        out = {name: clip_pool.turned(x, flips) for name, x in out.items()}
        signs = jnp.where(flips[1::-1], -1.0, 1.0)  # of dx where rows are mirrored, and of dy
        flow = jnp.where(flips[2], (out["flow"] * signs)[..., ::-1], out["flow"] * signs)
        return out | {"flow": flow}

    return jax.vmap(one)(jax.random.split(key, batch))


def end_point_errors(flow: jax.Array, true: jax.Array, visible: jax.Array) -> jax.Array:
    """Mean end-point errors of a flow and of the zero flow where visible is 1, in pixels, (2,)."""
    squares = jnp.stack([((x - true) ** 2).sum(-1) for x in (flow, jnp.zeros_like(flow))])
    return (jnp.sqrt(squares) * visible).sum((1, 2, 3)) / visible.sum()


class Trainer:
    """A recipe's computations."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.model = recipe, SpyNet()
        adam = optax.chain(optax.clip_by_global_norm(recipe.clip_norm), optax.scale_by_adam())
        self.optimizer = optax.apply_if_finite(adam, max_consecutive_errors=100)

    def initial(self) -> State:
        """Fresh weights."""
        params = motion_spynet(self.recipe.seed)
        average = jax.tree.map(jnp.copy, params)
        return State(params, average, self.optimizer.init(params), jnp.zeros((), jnp.int32), 0.0)

    def rate(self, fraction: float) -> float:
        """The learning rate at a fraction of the time."""
        recipe = self.recipe
        if fraction < recipe.warmup:
            return recipe.lr * (fraction / recipe.warmup + 0.01)
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(fraction, 1.0))
        return recipe.lr_end + (recipe.lr - recipe.lr_end) * cosine

    def step(
        self, state: State, clips: Pairs, filled: jax.Array, rate: jax.Array
    ) -> tuple[State, jax.Array]:
        """One update; returns the next state, and the loss, the end-point error of the estimate
        and of the zero flow, where visible, and the gradient's norm (4,)."""
        recipe = self.recipe
        key = jax.random.fold_in(jax.random.key(recipe.seed), state.step)
        draw, change = jax.random.split(key)
        batch = sample(clips, filled, draw, recipe.batch, recipe.crop)
        pairs = photometric_changes(jnp.stack([batch["ref"], batch["supp"]], axis=1), change)
        ref, supp = pairs[:, 0], pairs[:, 1]
        weight = recipe.hidden + (1 - recipe.hidden) * batch["visible"]

        def loss(params: Any) -> tuple[jax.Array, jax.Array]:
            flow, sown = self.model.apply({"params": params}, ref, supp, mutable=["intermediates"])
            flows = list(sown["intermediates"]["level"])
            errors = end_point_errors(flow, batch["flow"], batch["visible"])
            return level_errors(flows[::-1], batch["flow"], weight, recipe.power), errors

        (value, errors), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        decay = jnp.minimum(recipe.decay, (1 + state.step) / (10 + state.step))
        average = optax.incremental_update(params, state.average, 1 - decay)
        state = state.replace(
            params=params, average=average, optimizer=optimizer, step=state.step + 1
        )
        return state, jnp.stack([value, *errors, optax.tree.norm(gradient)])


def held_out() -> dict[str, np.ndarray]:
    """Pairs of neighboring frames of the data set's validation clips, both ways."""
    out = collections.defaultdict(list)
    for index in range(HELD_OUT):
        clip = render.render_clip(0, "val", index, HELD_OUT_FRAMES, HELD_OUT_SIZE)
        early, late = slice(None, -1), slice(1, None)
        for way, here, there in (("backward", early, late), ("forward", late, early)):
            out["ref"].append(clip["lq"][here])
            out["supp"].append(clip["lq"][there])
            out["flow"].append(clip[f"flow_{way}"][here])
            out["visible"].append(clip[f"visible_{way}"][here])
    return {name: np.concatenate(arrays) for name, arrays in out.items()}


def score(model: SpyNet, params: Any, pairs: dict[str, jax.Array]) -> jax.Array:
    """End-point error of SpyNet and of the zero flow, in pixels, where it is visible (2,)."""
    ref, supp = pairs["ref"].astype(jnp.float32) / 255, pairs["supp"].astype(jnp.float32) / 255
    estimate: Any = model.apply({"params": params}, ref, supp)
    return end_point_errors(estimate, pairs["flow"], pairs["visible"].astype(jnp.float32))


def save(state: State, recipe: Recipe, scores: dict[str, float], out: pathlib.Path) -> None:
    """Writes the weights' moving average as float16 and the checkpoint; each file at once."""
    state = jax.device_get(state)
    config = {"model": {"name": "spynet"}, "train": dataclasses.asdict(recipe), "scores": scores}
    config["train"] |= {"steps": int(state.step), "seconds": round(state.seconds)}
    half = jax.tree.map(lambda x: np.asarray(x, np.float16), state.average)
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        folder = pathlib.Path(temporary)
        presets.save("spynet", {"params": half}, config, folder)
        (folder / "spynet.checkpoint").write_bytes(serialization.to_bytes(state))
        for path in folder.iterdir():
            os.replace(path, out / path.name)


def train(recipe: Recipe, folder: pathlib.Path, out: pathlib.Path, given: Any) -> None:
    """Trains until the minutes are over, and saves."""
    begin = time.monotonic()
    trainer = Trainer(recipe)
    state = trainer.initial()
    checkpoint = out / "spynet.checkpoint"
    if checkpoint.exists():
        state = serialization.from_bytes(state, checkpoint.read_bytes())
        state = jax.tree.map(jnp.asarray, state)
    before, total = float(state.seconds), 60 * given.minutes
    state = state.replace(seconds=0.0)
    pairs = jax.device_put(held_out())
    pool = clip_pool.Pool(clip_pool.read(folder, given.capacity), given.capacity)
    count = sum(x.size for x in jax.tree.leaves(state.params))
    print(
        f"spynet: {count:,} parameters, {LEVELS} levels, on {jax.devices()[0].device_kind}; "
        "compiling",
        flush=True,
    )
    step = jax.jit(trainer.step, donate_argnums=0)
    scored = jax.jit(functools.partial(score, trainer.model))
    filled = pool.refresh()
    state, values = jax.block_until_ready(step(state, pool.clips, filled, 0.0))
    first = spoken = saved = time.monotonic()
    last = begin + total - before  # of a resumed run: what it has left
    print(f"{first - begin:5.0f} s  compiled", flush=True)
    waiting: collections.deque[jax.Array] = collections.deque()
    measured: list[np.ndarray] = []

    def keep(now: float) -> None:
        error, zero = map(float, jax.device_get(scored(state.average, pairs)))
        scores = {"epe": round(error, 4), "epe_zero": round(zero, 4)}
        save(state.replace(seconds=before + now - begin), recipe, scores, out)
        print(f"{now - begin:5.0f} s  saved: held out {error:.3f}, zero {zero:.3f}", flush=True)

    done = before / total
    while (now := time.monotonic()) < last:
        filled = pool.refresh()
        fraction = done + (1 - done) * (now - first) / (last - first)
        state, values = step(state, pool.clips, filled, trainer.rate(fraction))
        waiting.append(values)
        if len(waiting) > AHEAD:
            measured.append(jax.device_get(waiting.popleft()))
        if now - spoken > SAY_EVERY and measured:
            loss, error, zero, norm = np.mean(measured, axis=0)
            print(
                f"{now - begin:5.0f} s  step {state.step}  "
                f"{len(measured) / (now - spoken):.2f} /s  "
                f"loss {loss:.3f}  error {error:.3f} of {zero:.3f}  gradient {norm:.1f}  "
                f"{pool.added} clips",
                flush=True,
            )
            measured, spoken = [], now
        if now - saved > SAVE_EVERY:
            keep(now)
            saved = time.monotonic()
    keep(time.monotonic())


def main() -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes", type=float, required=True, help="in all, also of a resumed run"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument(
        "--pairs", type=pathlib.Path, help="folder of pairs; OUT/pairs if not given"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="that render")
    parser.add_argument(
        "--capacity", type=int, default=3000, help="clips on the device, 1.6 MB each"
    )
    parser.add_argument("--recipe", type=json.loads, default={}, help="fields that differ, as JSON")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    folder = given.pairs or given.out / "pairs"
    recipe = dataclasses.replace(Recipe(), **given.recipe)
    # A program of its own, whose processes do not import JAX.
    program = [sys.executable, "-m", render_pairs.__name__, folder]
    command = [*program, f"--workers={given.workers}", f"--seed={recipe.seed}"]
    renderer = subprocess.Popen(command, stdout=subprocess.DEVNULL) if given.workers else None
    try:
        train(recipe, folder, given.out, given)
    finally:
        if renderer:
            renderer.terminate()


if __name__ == "__main__":
    main()
