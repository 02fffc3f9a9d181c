"""Trains built-in weights for a given time, and writes them for `jaxvsr.presets`.

    python -m benchmarks.train_preset video --minutes=4 --out=OUT --workers=14 --dtype=bfloat16
    python -m benchmarks.train_preset mia --minutes=4 --out=OUT --workers=0 --dtype=bfloat16
    python -m benchmarks.train_preset video --minutes=4 --out=OUT --start=BEFORE/video.safetensors

Clips are rendered meanwhile into `--clips` by `--workers` processes, most of them of photographs
with `--photos`; a second training shares the folder of the first and has none. Two on one GPU need
XLA_PYTHON_CLIENT_MEM_FRACTION=0.35 for video and 0.55 for mia. The minutes count from the start;
from the end of compiling the learning rate follows the clock, so that the same command with more
minutes is a longer training. OUT gets NAME.safetensors and NAME.json every half minute, and
NAME.checkpoint, from which the same command resumes; `--start` takes the weights of an earlier
training. Networks with SpyNet have the built-in one. Needs jax, flax, optax, safetensors, scipy,
pillow and av.
"""

import argparse
import collections
import dataclasses
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
from jaxvsr.layers.sown import cost_of_still_tokens, keep_ratio
from jaxvsr.models.spynet import MIN_SIZE
from jaxvsr.training.initialization import initialize
from jaxvsr.training.losses import charbonnier
from jaxvsr.weights.spynet import builtin_spynet

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
        flow_lr: factor on the learning rate of SpyNet; 0: it keeps its built-in weights, which a
            preset does not store.
        sparsity: weight of the cost of computed tokens, for networks with masks.
        still_change: mean change of a token above which it costs little.
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
    flow_lr: float = 0.0
    sparsity: float = 0.0
    still_change: float = 0.1
    seed: int = 0


SWRN = {"name": "swrn", "dim": 48, "num_blocks": 4, "scale": 4}
BASICVSR = {"name": "basicvsr", "dim": 48, "depth": 8, "features_hr": 32}
MIAVSR = {
    "name": "miavsr",
    "dim": 64,
    "depths": (2, 2),
    "num_heads": (2, 2),
    "mid_channels": 64,
    "features_hr": 32,
    "drop_path": 0.0,
    "mask_start": 0.05,
}
RECIPES = {
    "video": Recipe(SWRN, (0.1, 0.4, 0.4, 0.1), frames=10, crop=40, lr=8e-4),
    "video-aligned": Recipe(BASICVSR, (0.1, 0.4, 0.4, 0.1), batch=24, lr=8e-4),
    "mia": Recipe(MIAVSR, (1.0, 0.0, 0.0, 0.0), batch=8, crop=64, lr=8e-4, sparsity=0.04),
    "swrn-x2": Recipe({"name": "swrn", "dim": 24, "num_blocks": 3, "scale": 2}, (1.0,)),
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
    """A recipe's computations.

    Attributes:
        recipe: to be computed.
        model: the network.
        optimizer: of all trained parameters.
        fixed: parameters that are not trained: SpyNet's, or none.
    """

    def __init__(self, recipe: Recipe, dtype: str) -> None:
        self.recipe = recipe
        self.model = models.create(**recipe.model, dtype=jnp.dtype(dtype))
        adam = optax.chain(optax.clip_by_global_norm(20.0), optax.scale_by_adam())
        self.optimizer = optax.apply_if_finite(adam, max_consecutive_errors=100)
        aligned = getattr(self.model, "align", False)
        self._flow = {"spynet": builtin_spynet()} if aligned else {}
        self.fixed = {} if recipe.flow_lr else self._flow

    def initial(self) -> State:
        """Fresh weights, SpyNet's apart."""
        key, init = jax.random.split(jax.random.key(self.recipe.seed))
        params = self.model.init(init, jnp.zeros((1, 2, MIN_SIZE, MIN_SIZE, 3)))["params"]
        params = {k: x for k, x in {**params, **self._flow}.items() if k not in self.fixed}
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
        self, state: State, fixed: Any, clips: clip_pool.Clips, filled: jax.Array, rate: jax.Array
    ) -> tuple[State, jax.Array]:
        """One update.

        Args:
            state: before it.
            fixed: parameters that are not trained.
            clips, filled: of the pool.
            rate: learning rate.

        Returns:
            The next state, and of the batch the loss, the gradient's norm, the gain in PSNR (RGB)
            over bicubic interpolation and the fraction of tokens that blocks compute (4,).
        """
        recipe = self.recipe
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        draw, gumbel = jax.random.split(key)
        batch = self.batch(clips, filled, draw)
        lq, gt = batch["lq"], batch["gt"]

        def loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            sr, changed = self.model.apply(
                {"params": {**params, **fixed}},
                lq,
                train=True,
                rngs={"gumbel": gumbel},
                mutable=["aux"],
            )
            aux = changed.get("aux", {})
            pixel = charbonnier(255 * sr, 255 * gt, recipe.eps).mean()
            error = sr - gt
            rgb, luma = ((x**2).mean((1, 2, 3, 4)) for x in (error, error @ LUMA))
            logs = jnp.log(rgb + FLAT) + jnp.log(luma + FLAT)
            cost = cost_of_still_tokens(aux, recipe.still_change)
            total = pixel + recipe.psnr * logs.mean() / 2 + recipe.sparsity * cost
            return total, (sr, keep_ratio(aux))

        (value, (sr, kept)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer)
        rates = {name: rate * (recipe.flow_lr if name == "spynet" else 1) for name in updates}
        params = {
            name: jax.tree.map(lambda p, u, r=rates[name]: p - r * u, state.params[name], update)
            for name, update in updates.items()
        }
        decay = jnp.minimum(recipe.ema, (1 + state.step) / (10 + state.step))
        average = optax.incremental_update(params, state.average, 1 - decay)
        state = state.replace(
            params=params, average=average, optimizer=optimizer, step=state.step + 1
        )
        bicubic = device.imresize(lq, self.model.scale)
        errors = [((jnp.clip(x, 0, 1) - gt) ** 2).mean((1, 2, 3, 4)) + FLAT for x in (bicubic, sr)]
        gain = (10 * jnp.log10(errors[0] / errors[1])).mean()
        return state, jnp.stack([value, optax.tree.norm(gradient), gain, kept])


def save(state: State, name: str, recipe: Recipe, out: pathlib.Path) -> None:
    """Writes the weights' moving average as float16, the config and the checkpoint; each file at
    once."""
    state = jax.device_get(state)
    config = {"model": recipe.model, "train": dataclasses.asdict(recipe)}
    config["train"] |= {"steps": int(state.step), "seconds": round(float(state.seconds))}
    del config["train"]["model"]
    half = jax.tree.map(lambda x: np.asarray(x, np.float16), state.average)
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        folder = pathlib.Path(temporary)
        presets.save(name, {"params": half}, config, folder)
        (folder / f"{name}.checkpoint").write_bytes(serialization.to_bytes(state))
        for path in folder.iterdir():
            os.replace(path, out / path.name)


def train(name: str, recipe: Recipe, clips: pathlib.Path, out: pathlib.Path, given: Any) -> None:
    """Trains until the minutes are over, and saves."""
    begin = time.monotonic()
    trainer = Trainer(recipe, given.dtype)
    state = initialize(trainer.initial)
    if given.start:
        _, variables, _ = presets.load(given.start.stem, given.start.parent)
        params = {name: variables["params"][name] for name in state.params}
        state = state.replace(params=params, average=params)
    state = jax.device_put(state, may_alias=False)
    checkpoint = out / f"{name}.checkpoint"
    if checkpoint.exists():
        state = serialization.from_bytes(state, checkpoint.read_bytes())
        state = jax.tree.map(jnp.asarray, state)
    before, total = float(state.seconds), 60 * given.minutes
    state = state.replace(seconds=0.0)
    read = clip_pool.read(clips, given.capacity)
    scaled = (clip_pool.scaled(clip, trainer.model.scale) for clip in read)
    pool = clip_pool.Pool(scaled, given.capacity)
    count = sum(x.size for x in jax.tree.leaves(state.params))
    print(f"{name}: {count:,} parameters on {jax.devices()[0].device_kind}; compiling", flush=True)
    fixed = jax.device_put(trainer.fixed)
    step = jax.jit(trainer.step, donate_argnums=0)
    filled = pool.refresh()
    state, _ = jax.block_until_ready(step(state, fixed, pool.clips, filled, 0.0))
    first = spoken = saved = time.monotonic()
    last = begin + total - before  # of a resumed run: the time that is left
    print(f"{first - begin:5.0f} s  compiled", flush=True)
    waiting: collections.deque[jax.Array] = collections.deque()
    measured: list[np.ndarray] = []
    while (now := time.monotonic()) < last:
        filled = pool.refresh()
        fraction = (before + (total - before) * (now - first) / (last - first)) / total
        state, values = step(state, fixed, pool.clips, filled, trainer.rate(fraction))
        waiting.append(values)
        if len(waiting) > AHEAD:
            measured.append(jax.device_get(waiting.popleft()))
        if now - spoken > SAY_EVERY and measured:
            loss, norm, gain, kept = np.mean(measured, axis=0)
            print(
                f"{now - begin:5.0f} s  step {state.step}  "
                f"{len(measured) / (now - spoken):.1f} /s  loss {loss:.3f}  gradient {norm:.3f}  "
                f"+{gain:.2f} dB  kept {kept:.0%}  {pool.added} clips",
                flush=True,
            )
            measured, spoken = [], now
        if now - saved > SAVE_EVERY:
            save(state.replace(seconds=before + now - begin), name, recipe, out)
            saved = time.monotonic()
    now = time.monotonic()
    save(state.replace(seconds=before + now - begin), name, recipe, out)
    print(f"{name}: step {state.step}, {before + now - begin:.0f} s", flush=True)


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
    parser.add_argument("--photos", type=pathlib.Path, help="folder of photographs for clips")
    parser.add_argument("--capacity", type=int, default=640, help="clips on the device")
    parser.add_argument("--dtype", default="float32", help="of the computation: bfloat16, ...")
    parser.add_argument("--start", type=pathlib.Path, help="weights of an earlier training")
    parser.add_argument("--recipe", type=json.loads, default={}, help="fields that differ, as JSON")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    clips = given.clips or given.out / "clips"
    recipe = dataclasses.replace(RECIPES[given.name], **given.recipe)
    # A program of its own, whose processes do not import JAX.
    command = [sys.executable, "-m", "benchmarks.render_clips", clips, f"--workers={given.workers}"]
    command += [f"--photos={given.photos}"] if given.photos else []
    renderer = subprocess.Popen(command, stdout=subprocess.DEVNULL) if given.workers else None
    try:
        while not any(clips.glob("*.npz")):
            if renderer and renderer.poll():
                raise SystemExit("clips cannot be rendered: see above")
            time.sleep(0.2)
        train(given.name, recipe, clips, given.out, given)
    finally:
        if renderer:
            renderer.terminate()


if __name__ == "__main__":
    main()
