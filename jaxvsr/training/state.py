"""What training changes from step to step."""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxvsr import models


class Weights(flax.struct.PyTreeNode):
    """What a model is evaluated with.

    Attributes:
        params: the parameters, float32.
        batch_stats: running statistics of normalisation layers; {} where there are none.
        ema: exponential moving average of the parameters; {} where none is kept.
    """

    params: Any
    batch_stats: Any
    ema: Any

    @property
    def variables(self) -> dict[str, Any]:
        """For `model.apply`; the moving average where there is one."""
        return variables(self.ema or self.params, self.batch_stats)


class TrainState(flax.struct.PyTreeNode):
    """The whole state of a training run, but for the position in the data.

    Attributes:
        step: () int32, how many updates were made.
        weights: of the model.
        opt_state: the optimiser's.
        rng: key from which each step's randomness is derived.
    """

    step: jax.Array
    weights: Weights
    opt_state: Any
    rng: jax.Array


def variables(params: Any, batch_stats: Any) -> dict[str, Any]:
    """The collections that `model.apply` takes."""
    return {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})


def initial_weights(model: nn.Module, key: jax.Array, ema: bool) -> Weights:
    """Fresh weights; the moving average starts as the parameters."""
    fresh = model.init(key, jnp.zeros_like(models.example(model)))
    params = fresh.get("params", {})
    average = jax.tree.map(jnp.copy, params) if ema else {}
    return Weights(params=params, batch_stats=fresh.get("batch_stats", {}), ema=average)


def initial_state(
    model: nn.Module, optimizer: optax.GradientTransformation, seed: int, ema: bool
) -> TrainState:
    """The state before the first step."""
    key, rng = jax.random.split(jax.random.key(seed))
    weights = initial_weights(model, key, ema)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        weights=weights,
        opt_state=optimizer.init(weights.params),
        rng=rng,
    )
