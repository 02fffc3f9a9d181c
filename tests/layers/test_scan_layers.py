import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr.layers.blocks import DropPath
from jaxvsr.layers.scan_layers import scan_layers


class Layer(nn.Module):
    """Scales differently where the number is odd, and tells the mean of what it was given."""

    odd: bool

    @nn.compact
    def __call__(self, x, offset, rate):
        self.sow("aux", "mean", x.mean(-1))
        y = nn.Dense(x.shape[-1])(x) + offset
        return x + DropPath(rate)(jnp.tanh(y) if self.odd else jnp.sin(y))


class Row(nn.Module):
    """Layers in a row; each is told an offset and a rate, and hands its output out."""

    period: int
    loop: bool

    @nn.compact
    def __call__(self, x, offsets, rate=0.0):
        def run(row, i, x, offset):
            x = Layer(i % row.period == 1, name=f"layer_{i}")(x, offset, rate)
            return x, {"out": x[:, 0]}

        if self.loop:
            return scan_layers(run, self, "layer", x, zip(offsets), self.period)
        outputs = []
        for i, offset in enumerate(offsets):
            x, output = run(self, i, x, offset)
            outputs.append(output)
        return x, tuple(outputs)


@pytest.mark.parametrize(("period", "depth"), [(1, 1), (1, 3), (2, 2), (2, 5), (2, 6)])
def test_as_a_plain_loop(period, depth):
    rng = np.random.default_rng(0)
    x, offsets = rng.normal(size=(4, 3)), rng.normal(size=depth)
    plain, loop = Row(period, False), Row(period, True)
    params = loop.init(jax.random.key(0), x, offsets)["params"]
    jax.tree.map(
        np.testing.assert_array_equal,
        params,
        plain.init(jax.random.key(0), x, offsets)["params"],
    )

    @functools.partial(jax.value_and_grad, argnums=1, has_aux=True)
    def loss(module, params):
        (y, outputs), sown = module.apply({"params": params}, x, offsets, mutable="aux")
        means = [leaf.ravel() for leaf in jax.tree.leaves(sown)]
        total = (y**2).sum() + sum((each["out"] ** 3).sum() for each in outputs)
        return total, jnp.sort(jnp.concatenate(means))

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        loss(loop, params),
        loss(plain, params),
    )


def test_a_loop_is_compiled_once_however_many_turns_it_has():
    x = jnp.ones((4, 3))

    def equations(depth):
        row, offsets = Row(2, True), jnp.zeros(depth)
        variables = {"params": row.init(jax.random.key(0), x, offsets)["params"]}
        return str(jax.make_jaxpr(row.apply)(variables, x, offsets)).count("dot_general")

    assert equations(4) == equations(8) == 2


def test_each_turn_draws_its_own_noise():
    x, offsets = jnp.ones((64, 3)), jnp.ones(4)
    row = Row(1, True)
    variables = {"params": row.init(jax.random.key(0), x, offsets)["params"]}
    _, outputs = row.apply(variables, x, offsets, 0.5, rngs={"droppath": jax.random.key(1)})
    steps = np.diff([np.ones(64), *(np.asarray(each["out"]) for each in outputs)], axis=0)
    left_out = steps == 0  # (layer, sample)
    assert (left_out.mean(1) > 0.2).all() and (left_out.mean(1) < 0.8).all()
    assert len({row.tobytes() for row in left_out}) == 4
