"""Learning rate schedules and the optimizer of the official recipes.

Iterations count from 0 here, from 1 in the official code.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax


def learning_rate(
    optim: ml_collections.ConfigDict, steps: int, factor: float = 1.0
) -> optax.Schedule:
    """Makes the learning rate schedule of a parameter group.

    Args:
        optim: `lr`, `lr_end`, `lr_steps`, `warmup` of a config.
        steps: length of the training, half a period of the cosine.
        factor: of the group, on every rate except `lr_end`.

    Returns:
        A function of the iteration.
    """
    base = factor * optim.lr
    if optim.lr_steps:
        boundaries = jnp.array([step for step, _ in optim.lr_steps])
        values = jnp.array([base, *(factor * rate for _, rate in optim.lr_steps)])

        def schedule(step):
            return values[jnp.searchsorted(boundaries, step, side="left")]

    else:
        schedule = optax.cosine_decay_schedule(base, steps, alpha=optim.lr_end / max(base, 1e-30))
    if not optim.warmup:
        return schedule

    def warmed_up(step):
        rising = base * (step + 1) / optim.warmup
        return jnp.where(step + 1 < optim.warmup, rising, schedule(step))

    return warmed_up


def make_optimizer(
    optim: ml_collections.ConfigDict, steps: int
) -> tuple[optax.GradientTransformation, dict[str, optax.Schedule]]:
    """Makes Adam with two parameter groups: "spynet" (`flow_params`) and "rest".

    Args:
        optim: the section of a config.
        steps: length of the training.

    Returns:
        The optimizer, and the schedule of each trained group by name.
    """
    rates = {
        "rest": learning_rate(optim, steps),
        "spynet": learning_rate(optim, steps, optim.flow_lr_mul),
    }
    adam = optax.scale_by_adam(optim.b1, optim.b2, optim.eps)
    rest = optax.chain(adam, optax.scale_by_learning_rate(rates["rest"]))
    if optim.flow_lr_mul:
        # The official code gives frozen parameters no gradient, so that Adam's own count starts
        # when they thaw, before iteration fix_flow (from 1).
        thawed = optax.conditionally_mask(adam, lambda step: step + 1 >= optim.fix_flow)
        spynet = optax.chain(thawed, optax.scale_by_learning_rate(rates["spynet"]))
    else:
        spynet = optax.set_to_zero()
        del rates["spynet"]
    group = functools.partial(_group, names=optim.flow_params)
    groups = optax.partition({"rest": rest, "spynet": spynet}, group)
    if optim.clip_norm:
        groups = optax.chain(optax.clip_by_global_norm(optim.clip_norm), groups)
    return groups, rates


def _group(params: Any, names: Sequence[str]) -> Any:
    """Labels each parameter: "spynet" if its path contains one of the names, else "rest"."""

    def name(path: tuple, _: Any) -> str:
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        return "spynet" if any(part in place for part in names) else "rest"

    return jax.tree_util.tree_map_with_path(name, params)
