"""The training step: loss, gradients, update."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from jaxvsr import flops
from jaxvsr.data.degradations import device
from jaxvsr.layers.sown import cost_of_still_tokens, keep_ratio
from jaxvsr.models import network_input
from jaxvsr.training import losses
from jaxvsr.training.photometric import photometric_changes
from jaxvsr.training.state import TrainState, Weights, all_finite, floats, variables

LEAST_ERROR = 1e-10  # mean square error of the highest PSNR, 100 dB
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def make_loss(
    model: nn.Module,
    loss: ml_collections.ConfigDict,
    noise: Sequence[float] = (),
    photometric: bool = False,
) -> Callable:
    """Makes the loss function of a model.

    Args:
        model: the network.
        loss: the section of a config.
        noise: range of levels, on 0..255, of Gaussian noise added to lq, drawn uniformly per
            sample; (): no noise.
        photometric: whether brightness, contrast, color and sharpness of lq are changed.

    Returns:
        A function of params, batch_stats, batch ("lq", "gt" uint8, and the other arrays that terms
        of the loss need) and rng. It returns the loss () and, as auxiliary output, the new
        batch_stats and the metrics: "pixel_loss" is the weighted sum of `loss.terms`. Each term is
        a metric, too, not weighted.
    """

    def compute(params: Any, batch_stats: Any, batch: Batch, rng: jax.Array):
        lq, gt = (batch[key].astype(jnp.float32) / 255 for key in ("lq", "gt"))
        if noise:
            rng, level_rng, noise_rng = jax.random.split(rng, 3)
            low, high = noise
            level = jax.random.uniform(level_rng, (len(lq), 1), minval=low, maxval=high)
            level = jnp.broadcast_to(level, lq.shape[:2])
            lq = device.with_noise_map(device.add_noise(lq, level, noise_rng), level)
        if photometric:
            rng, photometric_rng = jax.random.split(rng)
            lq = photometric_changes(lq, photometric_rng)
        rngs = dict(zip(("gumbel", "droppath"), jax.random.split(rng), strict=True))
        mutable = ["aux", "batch_stats"]
        seen = network_input(model, lq)
        sr, changed = model.apply(
            variables(params, batch_stats), seen, train=True, rngs=rngs, mutable=mutable
        )
        aux = changed.get("aux", {})
        terms = losses.values(losses.Seen(loss.peak * sr, loss.peak * gt, batch, aux), loss)
        pixel = sum(loss.terms[name] * value for name, value in terms.items())
        kept = keep_ratio(aux)
        cost = cost_of_still_tokens(aux, loss.still_change) if loss.still_change else kept
        total = pixel + loss.sparsity * cost
        error = ((jnp.clip(sr, 0, 1) - gt) ** 2).mean((1, 2, 3, 4))
        psnr = -10 * jnp.log10(jnp.maximum(error, LEAST_ERROR)).mean()
        metrics = {"loss": total, "pixel_loss": pixel, "keep_ratio": kept, "psnr": psnr, **terms}
        return total, (changed.get("batch_stats", {}), metrics)

    return compute


def make_step(
    loss: Callable, optimizer: optax.GradientTransformation, accumulate: int, ema: float
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Makes the function of a training step.

    Args:
        loss: of `make_loss`.
        optimizer: of `make_optimizer`.
        accumulate: number of parts of a batch whose gradients are accumulated.
        ema: decay of the moving average; 0: none is kept.

    Returns:
        A function of a state and a batch. It returns the next state and the metrics. "finite" is
        a bool vector: the loss first, then one entry per gradient and per tensor of the next
        state, named by `names_of_finite`.
    """
    gradient = jax.value_and_grad(loss, has_aux=True)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        weights = state.weights

        def add(carry: Any, inputs: Any) -> tuple[Any, Metrics]:
            batch_stats, total = carry
            (_, (batch_stats, metrics)), grads = gradient(weights.params, batch_stats, *inputs)
            return (batch_stats, jax.tree.map(jnp.add, total, grads)), metrics

        # Each part has samples of every device, so that no sample moves between devices.
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
        weights = Weights(params=params, batch_stats=batch_stats, ema=average)
        state = state.replace(step=state.step + 1, weights=weights, opt_state=opt_state)
        checked = [metrics["loss"], *jax.tree.leaves(grads), *floats(state).values()]
        metrics["finite"] = all_finite(checked)
        return state, metrics

    return step


def step_flops(config: ml_collections.ConfigDict, model: nn.Module, state: TrainState) -> float:
    """Counts the FLOPs of a step, without the recomputation of `remat`."""
    if hasattr(model, "remat"):
        model = model.clone(remat=False)
    loss = make_loss(model, config.loss, config.data.noise, config.data.photometric)
    weights = state.weights
    batch = batch_shapes(config.data, model.scale)
    gradient = jax.grad(loss, has_aux=True)
    return flops.count(gradient, weights.params, weights.batch_stats, batch, state.rng)


def batch_shapes(
    data: ml_collections.ConfigDict,
    scale: int,
    size: tuple[int, int] | None = None,
    sharding: jax.sharding.Sharding | None = None,
) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a global training batch.

    Args:
        data: section of a config.
        scale: of the model.
        size: (h, w) of the inputs; None: squares of data.crop // scale.
        sharding: of the arrays.

    Returns:
        "lq" (b, t, h, w, 3) and "gt" (b, t', scale*h, scale*w, 3), uint8; with `data.flow` the
        flows and masks of `pipeline.SampleReader`.
    """
    height, width = size or (data.crop // scale, data.crop // scale)
    whole = data.frames * (2 if data.mirror else 1)
    clip = data.batch, whole, height, width
    flows = {
        f"{name}_{way}": jax.ShapeDtypeStruct((*clip, *rest), dtype, sharding=sharding)
        for name, rest, dtype in (("flow", (2,), np.float32), ("visible", (), np.uint8))
        for way in ("forward", "backward")
    }
    return (flows if data.flow else {}) | {
        key: jax.ShapeDtypeStruct(
            (data.batch, frames, factor * height, factor * width, 3), np.uint8, sharding=sharding
        )
        for key, factor, frames in (
            ("lq", 1, len(data.lq_frames) or whole),
            ("gt", scale, len(data.gt_frames) or whole),
        )
    }


def names_of_finite(state: TrainState) -> list[str]:
    """Names the entries of a step's metric "finite"; gradients are named after parameters."""
    return ["loss", *floats(state.weights.params), *floats(state)]
