"""The state of a training."""

import functools
import json
from collections.abc import Sequence
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxvsr import models, programs


class Weights(flax.struct.PyTreeNode):
    """The weights of a model.

    Attributes:
        params: the parameters, float32.
        batch_stats: running statistics of normalization layers; {} if there are none.
        ema: exponential moving average of the parameters; {} if none is kept.
    """

    params: Any
    batch_stats: Any
    ema: Any

    @property
    def variables(self) -> dict[str, Any]:
        """For `model.apply`: the moving average if there is one."""
        return variables(self.ema or self.params, self.batch_stats)


class TrainState(flax.struct.PyTreeNode):
    """The state of a training, except the position in the data.

    Attributes:
        step: () int32, number of updates.
        weights: of the model.
        opt_state: of the optimizer.
        rng: key; each step derives its own from it.
    """

    step: jax.Array
    weights: Weights
    opt_state: Any
    rng: jax.Array


def variables(params: Any, batch_stats: Any) -> dict[str, Any]:
    """Returns the collections for `model.apply`."""
    return {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})


def floats(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree that are floating-point arrays, by path: "weights/params/a"."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }


def not_finite(tree: Any) -> list[str]:
    """Returns the paths of arrays with NaN or infinity, for trees of arrays as for `floats`."""
    arrays = floats(tree)
    good = jax.device_get(all_finite(list(arrays.values())))
    return [path for path, finite in zip(arrays, good, strict=True) if not finite]


@jax.jit
def all_finite(arrays: Sequence[jax.Array]) -> jax.Array:
    """Whether all values of each array are finite: bool (len(arrays),)."""
    return jnp.array([jnp.isfinite(x).all() for x in arrays], bool)


def initial_weights(model: nn.Module, key: jax.Array, ema: bool) -> Weights:
    """Initializes weights; the moving average starts equal to the parameters."""
    fresh = model.init(key, jnp.zeros_like(models.example(model)))
    params = fresh.get("params", {})
    average = jax.tree.map(jnp.copy, params) if ema else {}
    return Weights(params=params, batch_stats=fresh.get("batch_stats", {}), ema=average)


def initial_shapes(model: nn.Module, ema: bool) -> Weights:
    """Shapes of `initial_weights`, which are traced at the first start of a command only."""

    def traced() -> bytes:
        init = functools.partial(initial_weights, model, ema=ema)
        shapes = vars(jax.eval_shape(init, jax.random.key(0)))
        return json.dumps(jax.tree.map(lambda x: [x.dtype.name, *x.shape], shapes)).encode()

    found = json.loads(programs.kept("initial shapes", model, ema, traced))
    return Weights(
        **jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x[1:], x[0]),
            found,
            is_leaf=lambda x: isinstance(x, list),
        )
    )


def initial_state(
    model: nn.Module, optimizer: optax.GradientTransformation, seed: int, ema: bool
) -> TrainState:
    """Initializes the state before the first step."""
    key, rng = jax.random.split(jax.random.key(seed))
    weights = initial_weights(model, key, ema)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        weights=weights,
        opt_state=optimizer.init(weights.params),
        rng=rng,
    )
