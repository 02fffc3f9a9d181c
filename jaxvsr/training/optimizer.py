"""Learning rates and updates, in the order that the published recipes fix.

Iterations are counted from 0 here; the published ones count from 1.
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
    """The rate of a parameter group.

    Args:
        optim: `lr`, `lr_end`, `lr_steps`, `warmup` of a config.
        steps: length of the training, the cosine's half period.
        factor: of the group, on every rate but `lr_end`.

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
    """Adam in two groups: SpyNet, with a rate and a start of its own, and all the rest.

    What `flow_params` names besides goes with SpyNet.

    Args:
        optim: the section of a config.
        steps: length of the training.

    Returns:
        The optimiser, and the rate of each group that is trained, by name.
    """
    rates = {
        "rest": learning_rate(optim, steps),
        "spynet": learning_rate(optim, steps, optim.flow_lr_mul),
    }
    adam = optax.scale_by_adam(optim.b1, optim.b2, optim.eps)
    rest = optax.chain(adam, optax.scale_by_learning_rate(rates["rest"]))
    if optim.flow_lr_mul:
        # Frozen parameters have no gradient, so that Adam's own count starts when they thaw. The
        # published recipe thaws them before iteration number fix_flow, counted from 1.
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
    """Says of each parameter whether its place in the tree holds one of the names."""

    def name(path: tuple, _: Any) -> str:
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        return "spynet" if any(part in place for part in names) else "rest"

    return jax.tree_util.tree_map_with_path(name, params)
