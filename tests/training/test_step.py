"""The training step: loss, gradients, update."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr import models
from jaxvsr.config import defaults
from jaxvsr.training.optimizer import make_optimizer
from jaxvsr.training.state import initial_state, not_finite
from jaxvsr.training.step import make_loss, make_step, names_of_finite


@pytest.fixture(scope="module")
def small():
    """A tiny masked network's loss and state, and a batch."""
    model = models.create(
        "miavsr", dim=8, depths=(2,), num_heads=(2,), mid_channels=8, features_hr=8, align=False
    )
    config = defaults()
    config.loss.sparsity = 1e-3
    config.optim.lr = 1e-2
    optimizer, _ = make_optimizer(config.optim, 100)
    rng = np.random.default_rng(0)
    batch = {
        "lq": rng.integers(0, 256, (4, 3, 8, 8, 3), np.uint8),
        "gt": rng.integers(0, 256, (4, 3, 32, 32, 3), np.uint8),
    }
    state = jax.jit(lambda: initial_state(model, optimizer, seed=0, ema=True))()
    return model, config, optimizer, state, batch


def test_parts_of_a_batch_add_up_to_it(small):
    _, config, optimizer, _, batch = small
    # A model without noise, which each part draws for itself.
    model = models.create("swrn", dim=4, num_blocks=1)
    loss = make_loss(model, config.loss)
    state = jax.jit(lambda: initial_state(model, optimizer, seed=0, ema=True))()
    results = [jax.jit(make_step(loss, optimizer, parts, 0.9))(state, batch) for parts in (1, 2, 4)]
    for next_state, metrics in results[1:]:
        for name, value in results[0][1].items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-4)
        assert metrics["finite"].all()
        moved = jax.tree.map(
            lambda a, b: np.abs(a - b).max(),
            *(s.weights.params for s in (next_state, results[0][0])),
        )
        assert max(jax.tree.leaves(moved)) < 1e-4


def test_a_step_is_the_published_arithmetic(small):
    model, config, optimizer, state, batch = small
    compute = make_loss(model, config.loss)
    step = jax.jit(make_step(compute, optimizer, 1, 0.9))
    after, metrics = step(state, batch)
    loss, pixel, ratio = (float(metrics[k]) for k in ("loss", "pixel_loss", "keep_ratio"))
    assert loss == pytest.approx(pixel + 1e-3 * ratio, rel=1e-6) and 0 < ratio < 1
    before, params, ema = state.weights.params, after.weights.params, after.weights.ema
    expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, before, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), ema, expected)
    # Adam's first step goes against the gradient; its length is the rate, less where eps counts.
    rng = jax.random.split(jax.random.fold_in(state.rng, state.step), 1)[0]
    grads, _ = jax.jit(jax.grad(compute, has_aux=True))(before, {}, batch, rng)
    grad = np.float64(grads["conv_first"]["kernel"])
    moved = params["conv_first"]["kernel"] - before["conv_first"]["kernel"]
    np.testing.assert_allclose(moved, -1e-2 * grad / (np.abs(grad) + 1e-8), atol=2e-5)
    # Each step draws anew, and the same one the same.
    again, _ = step(state, batch)
    jax.tree.map(np.testing.assert_array_equal, again.weights.params, params)
    _, other = step(state.replace(step=state.step + 1), batch)
    assert other["keep_ratio"] != metrics["keep_ratio"]


def test_the_sparsity_term_spares_tokens_that_changed(small):
    model, config, _, state, batch = small
    terms = []
    for still_change in (1e-3, 1e6):
        config = config.copy_and_resolve_references()
        config.loss.still_change = still_change
        compute = jax.jit(make_loss(model, config.loss))
        total, (_, metrics) = compute(state.weights.params, {}, batch, jax.random.key(0))
        terms.append(float((total - metrics["pixel_loss"]) / 1e-3))
    # The frames are noise: hardly a token stands still. If all count as still, all cost the same.
    ratio = float(metrics["keep_ratio"])
    assert terms[0] < 0.01 < ratio and terms[1] == pytest.approx(ratio, abs=1e-3)


def test_samples_that_are_restored_exactly_have_a_finite_psnr(small):
    _, config, optimizer, _, _ = small
    model = models.create("swrn", dim=4, num_blocks=1)
    compute = make_loss(model, config.loss)
    state = initial_state(model, optimizer, seed=0, ema=False)
    zero = jax.tree.map(jnp.zeros_like, state.weights.params)
    black = {
        "lq": np.zeros((1, 3, 8, 8, 3), np.uint8),
        "gt": np.zeros((1, 3, 32, 32, 3), np.uint8),
    }
    _, (_, metrics) = jax.jit(compute)(zero, {}, black, jax.random.key(0))
    assert metrics["psnr"] == pytest.approx(100)


def test_a_state_that_overflows_is_named(small):
    _, config, _, _, batch = small
    model = models.create("swrn", dim=4, num_blocks=1)
    config = config.copy_and_resolve_references()
    config.optim.lr = 1e39
    optimizer, _ = make_optimizer(config.optim, 100)
    state = initial_state(model, optimizer, seed=0, ema=True)
    step = jax.jit(make_step(make_loss(model, config.loss), optimizer, 1, 0.9))
    after, metrics = step(state, batch)
    names = names_of_finite(state)
    wrong = [name for name, good in zip(names, metrics["finite"], strict=True) if not good]
    parts = {name.split("/")[1] for name in wrong}
    assert parts == {"params", "ema"} and all(name.startswith("weights/") for name in wrong)
    assert not_finite(after) == wrong and not not_finite(state)


@pytest.mark.slow
def test_training_in_bfloat16_stays_near(small):
    model, config, optimizer, state, batch = small
    exact, rounded = (
        make_loss(model.clone(dtype=dtype, use_mask=False), config.loss)
        for dtype in ("float32", "bfloat16")
    )
    after, metrics = jax.jit(make_step(rounded, optimizer, 1, 0.9))(state, batch)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(after.weights.params))
    loss, _ = jax.jit(exact)(state.weights.params, {}, batch, state.rng)
    assert loss != metrics["loss"] == pytest.approx(float(loss), rel=1e-2)
