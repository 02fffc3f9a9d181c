"""What the mobile networks have in common: streams, clipping, branches, moving statistics."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.mobile import NETWORKS, get_config
from jaxvsr import models
from jaxvsr.models.mobile.base import add_residual
from jaxvsr.models.mobile.blocks import BatchNorm
from jaxvsr.models.mobile.fani import ColorAttention
from jaxvsr.models.mobile.reparam import Convs, fuse
from jaxvsr.training.optimizer import make_optimizer
from jaxvsr.training.state import initial_state
from jaxvsr.training.step import make_loss, make_step

SMALL = {"stage_dim": 4, "stage_kernels": ((3, 1),), "num_blocks": 1}
FIELDS = {
    "abpn": {"num_blocks": 1},
    "afavsr": {"dim": 16, "num_blocks": 1, "attention_dim": 16},
    "fani": {**SMALL, "scaled": True},
    "mobile_rrn": {"num_blocks": 1},
    "sort": {"contrast": True},
    "swat": {"mix": "twice", "trunk_blocks": 1},
    "swrn": {"num_blocks": 1},
    "vsr": {"hidden": "block", "trunk_blocks": 0, "stage_kernels": ((3, 1),)},
}


@functools.cache
def network(name, **fields):
    """A model, random weights, two clips, and the compiled function of the last two."""
    model = models.create(name, **FIELDS[name], **fields)
    lq = jax.random.uniform(jax.random.key(0), (2, 3, 12, 14, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), lq)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda s: np.float32(0.1 * rng.uniform(-1, 1, s.shape)), shapes)
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(lambda x: 1 + x, variables["batch_stats"])
    return model, variables, lq, jax.jit(model.apply)


def neighborhood(model, t, last):
    return [max(t - 1, 0), t, min(t + 1, last)][: 2 + model.lookahead]


@pytest.mark.parametrize("name", FIELDS)
def test_a_stream_is_the_clip_to_the_bit(name):
    model, variables, lq, run = network(name)
    whole = run(variables, lq)
    assert whole.shape == (2, 3, 48, 56, 3) and whole.dtype == jnp.float32
    step = jax.jit(functools.partial(model.apply, method="step"))
    state = model.initial_state(lq[:, 0].shape)
    for t in range(3):
        sr, state = step(variables, state, lq[:, neighborhood(model, t, 2)])
        np.testing.assert_array_equal(sr, whole[:, t])


@pytest.mark.parametrize("name", FIELDS)
def test_a_frame_sees_its_neighbors_and_no_further_future(name):
    model, variables, lq, run = network(name)
    whole = run(variables, lq)
    other = run(variables, lq.at[:, 2].add(0.1))
    seen = [not np.array_equal(whole[:, t], other[:, t]) for t in range(3)]
    assert seen == [False, model.lookahead == 1, True]


@pytest.mark.parametrize("name", ["fani", "sort"])
def test_branches_become_one_kernel(name):
    _, variables, lq, trained = network(name, reparam=True)
    _, expected, _, deployed = network(name)
    fused = fuse(variables)
    assert jax.tree.map(jnp.shape, fused) == jax.tree.map(jnp.shape, expected)
    np.testing.assert_allclose(deployed(fused, lq), trained(variables, lq), atol=1e-5)


def test_branches_are_three_convolutions_summed():
    convs = Convs(reparam=True)

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return convs(x, 4, name="conv")

    x = jax.random.normal(jax.random.key(0), (1, 5, 6, 4))
    variables = Layer().init(jax.random.key(1), x)
    weights = variables["params"]["conv"]
    assert {k: v.shape for k, v in weights.items()} == {
        "kernel": (3, 3, 4, 4),
        "pointwise": (1, 1, 4, 4),
        "identity": (4,),
        "bias": (4,),
    }
    large = jax.lax.conv_general_dilated(
        x, weights["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    expected = large + x @ weights["pointwise"][0, 0] + x * weights["identity"] + weights["bias"]
    np.testing.assert_allclose(Layer().apply(variables, x), expected, atol=1e-5)


def test_moving_statistics_meet_the_frames_in_turn():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5, 6))
    x = x * jnp.arange(1, 4)[:, None, None, None]
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x, train=False)
    y, changed = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    mean, var, n = np.zeros(6), np.ones(6), 2 * 4 * 5
    for t in range(3):
        frame = np.asarray(x[:, t], np.float64)
        mean = 0.99 * mean + 0.01 * frame.mean((0, 1, 2))
        var = 0.99 * var + 0.01 * frame.var((0, 1, 2)) * n / (n - 1)
        np.testing.assert_allclose(y[:, t].mean((0, 1, 2)), 0, atol=1e-5)
        np.testing.assert_allclose(y[:, t].var((0, 1, 2)), 1, rtol=2e-3)
    np.testing.assert_allclose(changed["batch_stats"]["mean"], mean, atol=1e-6)
    np.testing.assert_allclose(changed["batch_stats"]["var"], var, rtol=1e-6)


def test_moving_statistics_go_through_a_recurrence():
    model, variables, lq, _ = network("vsr")
    _, changed = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))(
        variables, lq
    )
    state, expected = model.initial_state(lq[:, 0].shape), variables
    step = functools.partial(model.apply, method=lambda m, *x: m.cell(*x, train=True))
    step = jax.jit(functools.partial(step, mutable=["batch_stats"]))
    for t in range(3):
        frames = [255 * lq[:, i] for i in neighborhood(model, t, 2)]
        (state, _), moved = step(expected, state, 0, frames)
        expected = {**variables, **moved}
    close = functools.partial(np.allclose, rtol=1e-4, atol=1e-5)
    assert jax.tree.all(jax.tree.map(close, changed["batch_stats"], expected["batch_stats"]))


@pytest.mark.parametrize("name", ["fani", "swat"])
def test_bfloat16(name):
    model, variables, lq, run = network(name)
    exact, half = run(variables, lq), jax.jit(model.clone(dtype="bfloat16").apply)(variables, lq)
    assert half.dtype == jnp.float32
    assert jnp.linalg.norm(half - exact) < 3e-2 * jnp.linalg.norm(exact)


def test_the_published_alignment_has_no_gradient_and_the_repaired_one_has():
    current = 255 * jax.random.uniform(jax.random.key(0), (1, 2, 24, 24, 3))
    neighbors = jnp.concatenate([current[..., ::-1], 255 - current], axis=-1)
    shapes = {"reference": (6, 1), "query": (1, 3), "key": (3, 3), "value": (3, 3)}
    rng = np.random.default_rng(0)
    params = {
        layer: {"kernel": np.float32(0.2 * rng.normal(size=(3, 3, *io))), "bias": np.zeros(io[1])}
        for layer, io in shapes.items()
    }

    def gradients(scaled):
        align = ColorAttention(Convs(), project=False, scaled=scaled)

        def loss(params):
            return (align.apply({"params": params}, current, neighbors) ** 2).mean()

        gradient = jax.jit(jax.grad(loss))(params)
        return {layer: float(jnp.abs(gradient[layer]["kernel"]).max()) for layer in shapes}

    published, repaired = gradients(False), gradients(True)
    assert published.pop("value") > 0
    assert list(published.values()) == [0, 0, 0]
    assert min(repaired.values()) > 0


def test_values_of_fields_are_known():
    words = [
        (name, field, value)
        for name, fields in NETWORKS.values()
        for field, value in fields.items()
        if isinstance(value, str)
    ]
    assert len(words) > 20
    for name, field, value in words:
        with pytest.raises(
            ValueError, match=f"{field}='wrong' of model .* must be one of: .*{value}"
        ):
            models.create(name, **{field: "wrong"})


class Normalized(nn.Module):
    """A network with moving statistics, soon compiled."""

    scale = 4

    @nn.compact
    def __call__(self, lq, train=False):
        x = nn.Dense(48)(BatchNorm()(lq, train))
        return add_residual(lq, x, 4, clip=True)


def test_a_training_step_moves_the_statistics():
    config, model = get_config("FANI,tiny"), Normalized()
    optimizer, _ = make_optimizer(config.optim, 10)
    state = initial_state(model, optimizer, seed=0, ema=False)
    rng = np.random.default_rng(0)
    batch = {
        "lq": rng.integers(0, 256, (4, 2, 8, 8, 3), np.uint8),
        "gt": rng.integers(0, 256, (4, 2, 32, 32, 3), np.uint8),
    }
    moved = state.weights.batch_stats
    for part in (slice(0, 4, 2), slice(1, 4, 2)):  # each part of the batch in turn
        variables = {"params": state.weights.params, "batch_stats": moved}
        lq = jnp.asarray(batch["lq"][part] / np.float32(255))
        moved = model.apply(variables, lq, train=True, mutable=["batch_stats"])[1]["batch_stats"]
    step = jax.jit(make_step(make_loss(model, config.loss), optimizer, 2, 0.0))
    after, metrics = step(state, batch)
    assert metrics["finite"].all()
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
    jax.tree.map(close, after.weights.variables["batch_stats"], moved)
