"""Six iterations of the published training, against BasicSR's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr import models, weights
from jaxvsr.config import defaults
from jaxvsr.training.optimizer import make_optimizer
from jaxvsr.training.state import Weights, initial_state
from jaxvsr.training.step import make_loss, make_step
from jaxvsr.weights import TORCH
from jaxvsr.weights.rules import places

FIELDS = {"dim": 16, "depth": 2}


@pytest.fixture(scope="module")
def run():
    """The case's arrays, and of each iteration the loss, the rates, and how far tensors are."""
    manifest, tensors, arrays = reference.load("train_basicvsr")
    official = manifest["config"]["train"]
    config = defaults()
    config.optim.update(
        lr=official["optim_g"]["lr"],
        lr_end=official["scheduler"]["eta_min"],
        b1=official["optim_g"]["betas"][0],
        b2=official["optim_g"]["betas"][1],
        fix_flow=official["fix_flow"],
        flow_lr_mul=official["flow_lr_mul"],
        ema=official["ema_decay"],
    )
    model = models.create("basicvsr", **FIELDS)
    optimizer, rates = make_optimizer(config.optim, official["total_iter"])
    params = weights.from_torch("basicvsr", tensors, **FIELDS)["params"]
    fresh = jax.eval_shape(lambda: initial_state(model, optimizer, 0, True))
    state = fresh.replace(
        step=np.int32(0),
        weights=Weights(params, {}, params),
        opt_state=jax.jit(optimizer.init)(params),
        rng=jax.random.key(0),
    )
    step = jax.jit(make_step(make_loss(model, config.loss), optimizer, 1, 0.999))
    batch = {key: jnp.asarray(arrays[key]) for key in ("lq", "gt")}
    history = []
    for iteration in range(manifest["config"]["iterations"]):
        state, metrics = step(state, batch)
        trees = {"": state.weights.params, "ema_": state.weights.ema}
        moved = {
            f"{kind}{TORCH['basicvsr'].official_name(place)}": (np.float64(leaf), before)
            for kind, tree in trees.items()
            for (place, leaf), before in zip(
                places(tree).items(), map(np.float64, jax.tree.leaves(params)), strict=True
            )
        }
        lr = [float(rates[group](iteration)) for group in ("rest", "spynet")]
        history.append((float(metrics["loss"]), lr, moved))
    return arrays, history


def test_losses_and_rates(run):
    arrays, history = run
    np.testing.assert_allclose([loss for loss, _, _ in history], arrays["loss"], rtol=1e-4)
    ours, theirs = np.array([lr for _, lr, _ in history]), arrays["lr"]
    trains = np.stack([np.ones(6), arrays["spynet_trains"]], axis=1).astype(bool)
    np.testing.assert_allclose(ours[trains], theirs[trains], rtol=1e-5)


def test_parameters_and_their_average(run):
    arrays, history = run
    measures = {
        "sum": lambda x, before: x.sum(),
        "step": lambda x, before: np.linalg.norm(x - before),
        "stepsum": lambda x, before: (x - before).sum(),
    }
    compared = 0
    for key, expected in arrays.items():
        what, _, name = key.partition("/")
        kind, measure = ("ema_", what[4:]) if what.startswith("ema_") else ("", what)
        if measure in measures:
            ours = [measures[measure](*moved[kind + name]) for _, _, moved in history]
            error = np.abs(np.array(ours) - expected).max()
            assert error <= 5e-4 * np.abs(expected).max(), (key, ours, expected)
            compared += 1
    assert compared == 59
