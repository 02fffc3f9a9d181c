"""Trains built-in weights for a given time, and writes them for `jaxvsr.presets`.

    python -m benchmarks.train_preset video --minutes=4 --out=OUT --workers=14
    python -m benchmarks.train_preset swrn-x2 --minutes=4 --out=OUT --workers=0

Clips are rendered meanwhile into `--clips` by `--workers` processes; a second training shares the
folder of the first and has none. The learning rate follows the clock: the same command with more
minutes is a longer training. OUT gets NAME.safetensors and NAME.json every half minute, and
NAME.checkpoint, from which the same command resumes. Needs jax, flax, optax, safetensors, scipy,
pillow and av.
"""

import argparse
import collections
import dataclasses
import itertools
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

from benchmarks import clip_pool
from jaxvsr import models, presets
from jaxvsr.data.degradations import device
from jaxvsr.training.losses import charbonnier

SAVE_EVERY, SAY_EVERY = 30.0, 10.0  # seconds
LUMA = np.array([[65.481], [128.553], [24.966]], np.float32) / 219  # BT.601
FLAT = 1e-5  # of a squared error: clips that are restored this well count no more
AHEAD = 8  # steps that are dispatched before the first of them is waited for


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a preset is trained.

    Attributes:
        model: name and fields, of `models.create`.
        shares: how often each version of a clip's lq is drawn: clean, compressed twice, and
            compressed with blur, resizing or noise. One for scales other than 4.
        batch, frames, crop: of a batch; crop in pixels of lq.
        lr, lr_end: highest and last learning rate.
        warmup: fraction of the time in which it rises.
        eps: of the Charbonnier loss, for values in 0..255.
        psnr: weight of the logarithm of each clip's squared error, half of it that of luma, which
            is its PSNR but for a factor. Compressed frames are ambiguous: their mean is wanted.
        ema: largest decay of the moving average.
        seed: of the weights and the batches.
    """

    model: dict[str, Any]
    shares: tuple[float, ...]
    batch: int = 16
    frames: int = 8
    crop: int = 48
    lr: float = 1e-3
    lr_end: float = 1e-6
    warmup: float = 0.02
    eps: float = 1e-6
    psnr: float = 8.0
    ema: float = 0.999
    seed: int = 0


def _swrn(dim: int, num_blocks: int, scale: int) -> dict[str, Any]:
    return {"name": "swrn", "dim": dim, "num_blocks": num_blocks, "scale": scale}


RECIPES = {
    "video": Recipe(_swrn(48, 4, 4), (0.12, 0.34, 0.34, 0.2), frames=10, crop=40, lr=8e-4),
    "swrn-x2": Recipe(_swrn(24, 3, 2), (1.0,)),
}


class State(struct.PyTreeNode):
    """State of a training, as in its checkpoint."""

    params: Any
    average: Any
    optimizer: Any
    step: jax.Array
    key: jax.Array
    seconds: float


class Trainer:
    """A recipe's computations."""

    def __init__(self, recipe: Recipe, dtype: str) -> None:
        self.recipe = recipe
        self.model = models.create(**recipe.model, dtype=jnp.dtype(dtype))
        adam = optax.chain(optax.clip_by_global_norm(20.0), optax.scale_by_adam())
        self.optimizer = optax.apply_if_finite(adam, max_consecutive_errors=100)

    def initial(self) -> State:
        """Fresh weights."""
        key, init = jax.random.split(jax.random.key(self.recipe.seed))
        params = self.model.init(init, jnp.zeros((1, 2, 16, 16, 3)))["params"]
        average = jax.tree.map(jnp.copy, params)
        first = jnp.zeros((), jnp.int32)
        return State(
            params, average, self.optimizer.init(params), first, jax.random.key_data(key), 0.0
        )

    def rate(self, fraction: float) -> float:
        """The learning rate at a fraction of the time."""
        recipe = self.recipe
        if fraction < recipe.warmup:
            return recipe.lr * (fraction / recipe.warmup + 0.01)
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(fraction, 1.0))
        return recipe.lr_end + (recipe.lr - recipe.lr_end) * cosine

    def batch(self, clips: clip_pool.Clips, filled: jax.Array, key: jax.Array) -> clip_pool.Clips:
        """A batch in [0, 1], of the pool."""
        recipe = self.recipe
        shape = recipe.batch, recipe.frames, recipe.crop
        batch = clip_pool.sample(clips, filled, key, *shape, recipe.shares)
        return {k: x.astype(jnp.float32) / 255 for k, x in batch.items()}

    def step(
        self, state: State, clips: clip_pool.Clips, filled: jax.Array, rate: jax.Array
    ) -> tuple[State, jax.Array]:
        """One update; returns the next state, and the loss and the gradient's norm (2,)."""
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        batch = self.batch(clips, filled, key)

        def loss(params: Any) -> jax.Array:
            sr: Any = self.model.apply({"params": params}, batch["lq"], train=True)
            pixel = charbonnier(255 * sr, 255 * batch["gt"], self.recipe.eps).mean()
            error = sr - batch["gt"]
            rgb, luma = ((x**2).mean((1, 2, 3, 4)) for x in (error, error @ LUMA))
            logs = jnp.log(rgb + FLAT) + jnp.log(luma + FLAT)
            return pixel + self.recipe.psnr * logs.mean() / 2

        value, gradient = jax.value_and_grad(loss)(state.params)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        decay = jnp.minimum(self.recipe.ema, (1 + state.step) / (10 + state.step))
        average = optax.incremental_update(params, state.average, 1 - decay)
        state = state.replace(
            params=params, average=average, optimizer=optimizer, step=state.step + 1
        )
        return state, jnp.stack([value, optax.tree.norm(gradient)])

    def gain(
        self, params: Any, clips: clip_pool.Clips, filled: jax.Array, key: jax.Array
    ) -> jax.Array:
        """PSNR (RGB) over that of bicubic enlargement, on a batch."""
        batch = self.batch(clips, filled, key)
        lq, gt = batch["lq"], batch["gt"]
        bicubic = device.imresize(lq, self.model.scale)
        sr: Any = self.model.apply({"params": params}, lq)
        errors = [((jnp.clip(x, 0, 1) - gt) ** 2).mean((1, 2, 3, 4)) for x in (bicubic, sr)]
        return (10 * jnp.log10(errors[0] / errors[1])).mean()


def save(state: State, name: str, recipe: Recipe, out: pathlib.Path) -> None:
    """Writes the weights' moving average as a preset, and the checkpoint; each file at once."""
    state = jax.device_get(state)
    config = {"model": recipe.model, "train": dataclasses.asdict(recipe)}
    config["train"] |= {"steps": int(state.step), "seconds": round(float(state.seconds))}
    del config["train"]["model"]
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        folder = pathlib.Path(temporary)
        presets.save(name, {"params": state.average}, config, folder)
        (folder / f"{name}.checkpoint").write_bytes(serialization.to_bytes(state))
        for path in folder.iterdir():
            os.replace(path, out / path.name)


def train(name: str, recipe: Recipe, clips: pathlib.Path, out: pathlib.Path, given: Any) -> None:
    """Trains until the minutes are over, and saves."""
    begin = time.monotonic()
    trainer = Trainer(recipe, given.dtype)
    state = jax.jit(trainer.initial)()
    checkpoint = out / f"{name}.checkpoint"
    if checkpoint.exists():
        state = serialization.from_bytes(state, checkpoint.read_bytes())
        state = jax.tree.map(jnp.asarray, state)
    begin -= float(state.seconds)
    state = state.replace(seconds=0.0)
    total = 60 * given.minutes
    read = clip_pool.read(clips, given.capacity)
    scaled = (clip_pool.scaled(clip, recipe.model["scale"]) for clip in read)
    pool = clip_pool.Pool(scaled, given.capacity)
    count = sum(x.size for x in jax.tree.leaves(state.params))
    print(f"{name}: {count:,} parameters on {jax.devices()[0].device_kind}; compiling", flush=True)
    step = jax.jit(trainer.step, donate_argnums=0)
    gain = jax.jit(trainer.gain)
    waiting: collections.deque[jax.Array] = collections.deque()
    measured, spoken, saved = [], time.monotonic(), time.monotonic()
    for taken in itertools.count():
        elapsed = time.monotonic() - begin
        if taken and elapsed >= total:  # at least a step, however long compiling took
            break
        filled = pool.refresh()
        state, values = step(state, pool.clips, filled, trainer.rate(elapsed / total))
        waiting.append(values)
        if len(waiting) > AHEAD:
            measured.append(jax.device_get(waiting.popleft()))
        now = time.monotonic()
        if now - spoken > SAY_EVERY and measured:
            better = gain(state.average, pool.clips, filled, jax.random.key(int(state.step)))
            loss, norm = sum(measured) / len(measured)
            print(
                f"{elapsed:5.0f} s  step {state.step}  {len(measured) / (now - spoken):.1f} /s  "
                f"loss {loss:.3f}  gradient {norm:.3f}  +{better:.2f} dB  {pool.added} clips",
                flush=True,
            )
            measured, spoken = [], time.monotonic()
        if now - saved > SAVE_EVERY:
            save(state.replace(seconds=now - begin), name, recipe, out)
            saved = time.monotonic()
    save(state.replace(seconds=time.monotonic() - begin), name, recipe, out)
    print(f"{name}: step {state.step}, {time.monotonic() - begin:.0f} s", flush=True)


def main() -> None:
    """Trains, or writes the weights of a training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument(
        "--minutes", type=float, required=True, help="in all, also of a resumed run"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument(
        "--clips", type=pathlib.Path, help="folder of clips; OUT/clips if not given"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="that render")
    parser.add_argument("--capacity", type=int, default=640, help="clips on the device")
    parser.add_argument("--dtype", default="float32", help="of the computation: bfloat16, ...")
    parser.add_argument("--recipe", type=json.loads, default={}, help="fields that differ, as JSON")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    clips = given.clips or given.out / "clips"
    recipe = dataclasses.replace(RECIPES[given.name], **given.recipe)
    # A program of its own, whose processes do not import JAX.
    command = [sys.executable, "-m", "benchmarks.render_clips", clips, f"--workers={given.workers}"]
    renderer = subprocess.Popen(command, stdout=subprocess.DEVNULL) if given.workers else None
    try:
        train(given.name, recipe, clips, given.out, given)
    finally:
        if renderer:
            renderer.terminate()


if __name__ == "__main__":
    main()
