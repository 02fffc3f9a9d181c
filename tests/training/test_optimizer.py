"""Optimizers and learning rate schedules."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvsr.config import defaults
from jaxvsr.errors import InputError
from jaxvsr.training.optimizer import (
    OPTIMIZERS,
    SCHEDULES,
    check_optimizer,
    learning_rate,
    make_optimizer,
)

PARAMS = {"spynet": {"w": jnp.ones(3)}, "head": {"w": jnp.ones(3)}}


ONES = jax.tree.map(jnp.ones_like, PARAMS)


def optim(**changes):
    section = defaults().optim
    section.update(changes)
    return section


def run(section, steps, gradient):
    """Parameters after each of `steps` updates."""
    optimizer, _ = make_optimizer(section, 100)
    params, state, history = PARAMS, jax.jit(optimizer.init)(PARAMS), []

    @jax.jit
    def update(grads, state, params):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for step in range(steps):
        params, state = update(gradient(step), state, params)
        history.append({name: np.array(params[name]["w"]) for name in params})
    return history, state


def constant(_):
    return {"spynet": {"w": jnp.full(3, 2.0)}, "head": {"w": jnp.full(3, -0.5)}}


def test_what_shares_spynets_rate_is_told_by_its_name():
    history, _ = run(optim(flow_params=("spynet", "ea"), flow_lr_mul=0.0), 1, constant)
    np.testing.assert_array_equal(history[-1]["head"], 1)


def test_cosine_is_the_published_one():
    rate = learning_rate(optim(lr=2e-4, lr_end=1e-7), 6, 0.125)
    for step in range(7):
        expected = 1e-7 + (2.5e-5 - 1e-7) * (1 + np.cos(np.pi * step / 6)) / 2
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5)


def test_steps_are_the_published_ones():
    rate = learning_rate(optim(lr=1e-3, lr_steps=((40, 5e-4), (100, 1e-4))), 200)
    # TensorFlow's PiecewiseConstantDecay: a boundary still belongs to the interval before it.
    expected = {0: 1e-3, 40: 1e-3, 41: 5e-4, 100: 5e-4, 101: 1e-4, 199: 1e-4}
    assert {k: pytest.approx(v) for k, v in expected.items()} == {k: rate(k) for k in expected}


def test_warmup_rises_linearly_and_hands_over():
    rate = learning_rate(optim(lr=1.0, lr_end=0.0, warmup=4), 100)
    assert [float(rate(i)) for i in range(3)] == pytest.approx([0.25, 0.5, 0.75])
    assert float(rate(3)) == pytest.approx((1 + np.cos(np.pi * 3 / 100)) / 2)


def test_spynet_starts_late_with_a_count_of_its_own():
    section = optim(lr=1e-2, lr_end=0.0, fix_flow=4, flow_lr_mul=0.5)
    rates = [float(learning_rate(section, 100, factor)(i)) for factor in (1, 0.5) for i in range(6)]
    history, _ = run(section, 6, constant)
    # Adam's first steps on a constant gradient have the length of the rate: the count of the
    # group that starts late is 1 at iteration 4, else its step would be shorter.
    head = 1 + np.cumsum(rates[:6])
    spynet = 1 - np.cumsum([0, 0, 0, *rates[9:]])
    for i, params in enumerate(history):
        np.testing.assert_allclose(params["head"], head[i], rtol=1e-5)
        np.testing.assert_allclose(params["spynet"], spynet[i], rtol=1e-5)


def test_other_parameters_may_start_late_at_the_full_rate():
    section = optim(lr=1e-2, lr_end=0.0, fix_flow=3, flow_lr_mul=0.5, fix_part="head")
    rates = [float(learning_rate(section, 100)(i)) for i in range(5)]
    history, _ = run(section, 5, constant)
    head = 1 + np.cumsum([0, 0, *rates[2:]])
    np.testing.assert_allclose([params["head"][0] for params in history], head, rtol=1e-5)
    spynet = 1 - np.cumsum([0, 0, *rates[2:]]) / 2
    np.testing.assert_allclose([params["spynet"][0] for params in history], spynet, rtol=1e-5)


def test_gradients_before_the_start_leave_no_trace():
    section = optim(fix_flow=3)

    def wild(step):
        grads = constant(step)
        return grads if step >= 2 else {**grads, "spynet": {"w": jnp.full(3, 1e6)}}

    quiet, loud = run(section, 5, constant)[0], run(section, 5, wild)[0]
    np.testing.assert_array_equal(quiet[-1]["spynet"], loud[-1]["spynet"])


def test_a_group_that_is_never_trained_keeps_no_moments():
    history, state = run(optim(flow_lr_mul=0.0), 3, constant)
    np.testing.assert_array_equal(history[-1]["spynet"], 1)
    sizes = [leaf.size for leaf in jax.tree.leaves(state) if leaf.size > 1]
    assert sizes == [3, 3]


def test_clipping_bounds_the_norm_of_all_gradients():
    section = optim(clip_norm=1.0, b1=0.0, b2=0.0, eps=1e3, fix_flow=0, flow_lr_mul=1.0, lr=1.0)
    history, _ = run(section, 1, constant)
    gradient = np.concatenate([np.full(3, 2.0), np.full(3, -0.5)])
    clipped = gradient / np.linalg.norm(gradient)
    moved = np.concatenate([1 - history[0]["spynet"], 1 - history[0]["head"]])
    np.testing.assert_allclose(moved, clipped / (np.abs(clipped) + 1e3), rtol=1e-3)


def basicsr_restarts(step, lr, lr_end, periods, weights):
    """CosineAnnealingRestartLR.get_lr of BasicSR."""
    ends = [sum(periods[: i + 1]) for i in range(len(periods))]
    i = next(i for i, end in enumerate(ends) if step <= end)
    start = 0 if i == 0 else ends[i - 1]
    cosine = 1 + math.cos(math.pi * (step - start) / periods[i])
    return lr_end + weights[i] * 0.5 * (lr - lr_end) * cosine


def test_cosine_with_restarts_is_basicsrs():
    periods, weights = (4, 3, 5), (1, 0.5, 0.25)
    section = optim(lr=2e-4, schedule="cosine_restarts", periods=periods, restart_weights=weights)
    rates = jax.jit(jax.vmap(learning_rate(section, 12, 0.5)))(np.arange(13))
    expected = [basicsr_restarts(step, 1e-4, 1e-7, periods, weights) for step in range(13)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    whole = optim(schedule="cosine_restarts", periods=(12,), restart_weights=(1,))
    for step in (0, 5, 12):
        rate = learning_rate(optim(), 12)(step)
        assert float(learning_rate(whole, 12)(step)) == pytest.approx(float(rate), rel=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_warms_up(schedule):
    fields = {"lr_steps": ((50, 0.5),)} if schedule == "steps" else {}
    if schedule == "cosine_restarts":
        fields = {"periods": (100,), "restart_weights": (1,)}
    section = optim(lr=1.0, lr_end=0.0, schedule=schedule, warmup=4, **fields)
    check_optimizer(section, 100)
    rate = learning_rate(section, 100)
    assert [float(rate(i)) for i in range(3)] == pytest.approx([0.25, 0.5, 0.75])
    later = {"cosine": 0.5, "cosine_restarts": 0.5, "steps": 1.0, "constant": 1.0}
    assert float(rate(50)) == pytest.approx(later[schedule])


GRADIENTS = (1.0, -0.5, 0.25, 2.0, -1.0, 0.1)
# A number from 1.0 after each step of these gradients, by torch.optim of PyTorch 2.13: lr=0.01,
# betas (0.9, 0.99), alpha 0.99, momentum 0.9; for AdamW and RAdam decoupled weight decay of 0.1.
PYTORCH = {
    "adam": (0.99, 0.987333, 0.9839177, 0.9775128, 0.9747087, 0.9720806),
    "adamw": (0.989, 0.9853441, 0.9809434, 0.9735577, 0.96978, 0.9661821),
    "radam": (0.989, 0.9859058, 0.982669, 0.9742743, 0.97014, 0.9689552),
    "rmsprop": (0.9, 0.9449013, 0.9228909, 0.835829, 0.8759111, 0.8718859),
    "sgd": (0.99, 0.986, 0.9799, 0.95441, 0.941469, 0.9288221),
}


def lion(p):
    """As above, by Chen et al., "Symbolic discovery of optimization algorithms", program 1."""
    m = 0.0
    for g in GRADIENTS:
        p -= 0.01 * (np.sign(0.9 * m + 0.1 * g) + 0.1 * p)
        m = 0.99 * m + 0.01 * g
        yield p


@pytest.mark.parametrize("name", [*PYTORCH, "lion"])
def test_steps_are_pytorchs_or_the_papers(name):
    decay = 0.1 if name in ("adamw", "radam", "lion") else 0.0
    section = optim(name=name, weight_decay=decay, schedule="constant", lr=0.01)
    history, _ = run(section, 6, lambda i: jax.tree.map(lambda p: GRADIENTS[i] * p, ONES))
    found = [params["head"][0] for params in history]
    np.testing.assert_allclose(found, PYTORCH.get(name) or list(lion(1.0)), rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_down(name):
    section = optim(name=name, schedule="constant", lr=0.01, fix_flow=2)
    check_optimizer(section, 100)
    history, _ = run(section, 8, lambda _: ONES)
    assert history[-1]["head"].max() < history[0]["head"].max() <= 1
    np.testing.assert_array_equal(history[0]["spynet"], 1)
    assert history[-1]["spynet"].max() < 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "lionn"}, "unknown optim.name='lionn'; did you mean 'lion'"),
        ({"schedule": "cosin"}, "unknown optim.schedule='cosin'; did you mean 'cosine'"),
        ({"weight_decay": 0.1}, "weight_decay needs an optimizer that has it"),
        (
            {"schedule": "cosine", "lr_steps": ((5, 0.1),)},
            "is for optim.schedule='steps', not 'cosine'",
        ),
        ({"schedule": "steps"}, "'steps' needs optim.lr_steps"),
        ({"lr_steps": ((5, 0.1), (5, 0.2))}, "must be pairs of a step and the rate after it"),
        ({"lr_steps": ((5,),)}, "must be pairs of a step and the rate after it"),
        ({"periods": (9,)}, "is for optim.schedule='cosine_restarts', not 'cosine'"),
        (
            {"schedule": "cosine_restarts", "periods": (9, 9), "restart_weights": (1,)},
            "as many as optim.restart_weights",
        ),
        (
            {"schedule": "cosine_restarts", "periods": (9,), "restart_weights": (1,)},
            "end at step 9, before train.steps=10",
        ),
    ],
)
def test_optimizers_and_schedules_that_are_impossible_are_refused(fields, message):
    with pytest.raises(InputError, match=re.escape(message)):
        check_optimizer(optim(**fields), 10)
