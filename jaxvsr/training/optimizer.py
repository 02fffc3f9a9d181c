"""Learning rate schedules and optimizers, and the tables of their names.

Iterations count from 0 here, from 1 in the official code.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from jaxvsr.errors import InputError, suggest


def _decayed(optim: ml_collections.ConfigDict, *steps: optax.GradientTransformation):
    """Adds weight decay that is not in the gradient, as AdamW's."""
    return optax.chain(*steps, optax.add_decayed_weights(optim.weight_decay))


# Each optimizer is a function of the section `optim` of the config. It returns the direction of a
# step, before its length, the learning rate.
OPTIMIZERS: dict[str, Callable[[ml_collections.ConfigDict], optax.GradientTransformation]] = {
    "adam": lambda o: optax.scale_by_adam(o.b1, o.b2, o.eps),  # the only one without weight_decay
    "adamw": lambda o: _decayed(o, optax.scale_by_adam(o.b1, o.b2, o.eps)),
    "nadamw": lambda o: _decayed(o, optax.scale_by_adam(o.b1, o.b2, o.eps, nesterov=True)),
    "radam": lambda o: _decayed(o, optax.scale_by_radam(o.b1, o.b2, o.eps)),
    "adabelief": lambda o: _decayed(o, optax.scale_by_belief(o.b1, o.b2, o.eps)),
    "adan": lambda o: _decayed(o, optax.scale_by_adan(eps=o.eps)),
    "lion": lambda o: _decayed(o, optax.scale_by_lion(o.b1, o.b2)),
    "lamb": lambda o: optax.chain(
        _decayed(o, optax.scale_by_adam(o.b1, o.b2, o.eps)), optax.scale_by_trust_ratio()
    ),
    "rmsprop": lambda o: _decayed(o, optax.scale_by_rms(o.b2, o.eps)),
    "sgd": lambda o: _decayed(o, optax.trace(o.b1)),  # b1 is the momentum
}


def _cosine(optim: ml_collections.ConfigDict, factor: float, steps: int) -> optax.Schedule:
    """Half a period of a cosine, down to `lr_end` at the last step."""
    base = factor * optim.lr
    return optax.cosine_decay_schedule(base, steps, alpha=optim.lr_end / max(base, 1e-30))


def _cosine_restarts(optim: ml_collections.ConfigDict, factor: float, steps: int) -> optax.Schedule:
    """A cosine for each of `periods`, from its part of the rate, `restart_weights`, to `lr_end`.

    Source: Loshchilov and Hutter, "SGDR", equation 5; BasicSR's CosineAnnealingRestartLR.
    """
    del steps
    periods = jnp.array(optim.periods)
    ends, weights = periods.cumsum(), jnp.array(optim.restart_weights, jnp.float32)

    def schedule(step):
        i = jnp.searchsorted(ends[:-1], step, side="left")  # a period's last step is its end
        place = (step - (ends - periods)[i]) / periods[i]
        half = weights[i] * (factor * optim.lr - optim.lr_end) / 2
        return optim.lr_end + half * (1 + jnp.cos(jnp.pi * place))

    return schedule


def _steps(optim: ml_collections.ConfigDict, factor: float, steps: int) -> optax.Schedule:
    """Constant between the steps of `lr_steps`."""
    del steps
    boundaries = jnp.array([step for step, _ in optim.lr_steps])
    values = jnp.array(
        [factor * rate for rate in (optim.lr, *(rate for _, rate in optim.lr_steps))]
    )

    def schedule(step):
        return values[jnp.searchsorted(boundaries, step, side="left")]

    return schedule


def _constant(optim: ml_collections.ConfigDict, factor: float, steps: int) -> optax.Schedule:
    del steps
    return optax.constant_schedule(factor * optim.lr)


# Each schedule is a function of the section `optim`, the factor on a group's rates and the number
# of steps. It returns a function of the iteration.
SCHEDULES: dict[str, Callable[[ml_collections.ConfigDict, float, int], optax.Schedule]] = {
    "cosine": _cosine,
    "cosine_restarts": _cosine_restarts,
    "steps": _steps,
    "constant": _constant,
}


def learning_rate(
    optim: ml_collections.ConfigDict, steps: int, factor: float = 1.0
) -> optax.Schedule:
    """Makes the learning rate schedule of a parameter group.

    Args:
        optim: `lr`, `schedule` and its fields, and `warmup` of a config.
        steps: length of the training.
        factor: of the group, on every rate except `lr_end`.

    Returns:
        A function of the iteration.
    """
    schedule = SCHEDULES[_schedule_name(optim)](optim, factor, steps)
    if not optim.warmup:
        return schedule

    def warmed_up(step):
        rising = factor * optim.lr * (step + 1) / optim.warmup
        return jnp.where(step + 1 < optim.warmup, rising, schedule(step))

    return warmed_up


def _schedule_name(optim: ml_collections.ConfigDict) -> str:
    return optim.schedule or ("steps" if optim.lr_steps else "cosine")


def check_optimizer(optim: ml_collections.ConfigDict, steps: int) -> None:
    """Raises InputError for an unknown optimizer or schedule, or fields that do not belong to it.

    Args:
        optim: the section of a config.
        steps: length of the training.
    """
    if optim.name not in OPTIMIZERS:
        raise InputError(f"unknown optim.name={optim.name!r}{suggest(optim.name, OPTIMIZERS)}")
    if optim.weight_decay and optim.name == "adam":
        raise InputError("optim.weight_decay needs an optimizer that has it: optim.name='adamw'")
    name = _schedule_name(optim)
    if name not in SCHEDULES:
        raise InputError(f"unknown optim.schedule={name!r}{suggest(name, SCHEDULES)}")
    owners = {
        "lr_steps": "steps",
        "periods": "cosine_restarts",
        "restart_weights": "cosine_restarts",
    }
    for field, owner in owners.items():
        if name == owner and not optim[field]:
            raise InputError(f"optim.schedule={name!r} needs optim.{field}")
        if name != owner and optim[field]:
            raise InputError(
                f"optim.{field}={optim[field]} is for optim.schedule={owner!r}, not {name!r}: set "
                "it to ()"
            )
    boundaries = [step for step, *_ in optim.lr_steps]
    if boundaries != sorted(set(boundaries)) or any(len(pair) != 2 for pair in optim.lr_steps):
        raise InputError(
            f"optim.lr_steps={optim.lr_steps} must be pairs of a step and the rate after it, in "
            "order: ((1000, 5e-5),)"
        )
    if not optim.periods:
        return
    if len(optim.periods) != len(optim.restart_weights) or min(optim.periods) < 1:
        raise InputError(
            f"optim.periods={optim.periods} must be integers >= 1, as many as "
            f"optim.restart_weights={optim.restart_weights}"
        )
    if sum(optim.periods) < steps:
        raise InputError(
            f"optim.periods={optim.periods} end at step {sum(optim.periods)}, before "
            f"train.steps={steps}"
        )


def make_optimizer(
    optim: ml_collections.ConfigDict, steps: int
) -> tuple[optax.GradientTransformation, dict[str, optax.Schedule]]:
    """Makes an optimizer with parameter groups.

    They are "spynet" (`flow_params`), "late" (`fix_part`), and "rest".

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
    direction = OPTIMIZERS[optim.name](optim)
    rest = optax.chain(direction, optax.scale_by_learning_rate(rates["rest"]))
    # The official code gives frozen parameters no gradient, so that the optimizer's own count
    # starts when they thaw, before iteration fix_flow (from 1).
    thawed = optax.conditionally_mask(direction, lambda step: step + 1 >= optim.fix_flow)
    late = optax.chain(thawed, optax.scale_by_learning_rate(rates["rest"]))
    if optim.flow_lr_mul:
        spynet = optax.chain(thawed, optax.scale_by_learning_rate(rates["spynet"]))
    else:
        spynet = optax.set_to_zero()
        del rates["spynet"]
    members, names = {"rest": rest, "spynet": spynet}, {"spynet": tuple(optim.flow_params)}
    if optim.fix_part:
        members["late"], names["late"] = late, (optim.fix_part,)
    groups = optax.partition(members, functools.partial(_group, names=names))
    if optim.clip_norm:
        groups = optax.chain(optax.clip_by_global_norm(optim.clip_norm), groups)
    return groups, rates


def _group(params: Any, names: Mapping[str, Sequence[str]]) -> Any:
    """Labels each parameter by the first group with a name that its path contains, else "rest"."""

    def name(path: tuple, _: Any) -> str:
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        found = (group for group, parts in names.items() if any(part in place for part in parts))
        return next(found, "rest")

    return jax.tree_util.tree_map_with_path(name, params)
