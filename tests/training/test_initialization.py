"""Initial weights, drawn leaf by leaf."""

import functools
import logging

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvsr import models
from jaxvsr.config import load_config
from jaxvsr.distributed.mesh import make_mesh, replicated, to_all_devices
from jaxvsr.training.initialization import initialize
from jaxvsr.training.state import initial_state, initial_weights

TINY = ("basicvsrpp", "iconvsr", "iiavsr", "miavsr", "psrt", "rvrt", "rvrt_light", "spynet", "vrt")
CONFIGS = [f"configs/{name}.py:tiny" for name in TINY]
CONFIGS += ["configs/swrn.py", "configs/mobile.py:SORT_0", "configs/mobile.py:SWAT_0"]


class Block(nn.Module):
    """A layer that draws its parameters and needs its input for nothing else."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, kernel_init=nn.initializers.normal(0.02))(nn.LayerNorm()(x))
        table = self.param("table", nn.initializers.truncated_normal(0.02), (8,))
        return x + jnp.linalg.qr(x[0])[0].sum() * table


class Network(nn.Module):
    """A network with blocks of one kind, recomputed in backward passes, and statistics."""

    depth: int
    scale: int = 1

    @nn.compact
    def __call__(self, lq):
        x = nn.Conv(8, (1, 1), kernel_init=nn.initializers.orthogonal())(lq)
        x = nn.BatchNorm(use_running_average=True)(x)
        for i in range(self.depth):
            x = nn.remat(Block)(name=f"block_{i}")(x)
        return x + self.param("gain", nn.initializers.constant(-0.0), ())


def bits(tree):
    arrays = [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        for x in jax.tree.leaves(tree)
    ]
    return [(x.shape, x.dtype, np.asarray(x).tobytes()) for x in arrays]


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert bits(a) == bits(b)


def compiled(caplog, init):
    """Number of programs that are compiled to initialize."""
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        caplog.clear()
        initialize(init)
    return sum("Compiling jit(draw)" in record.getMessage() for record in caplog.records)


def test_a_state_has_the_bits_of_the_jitted_initializer():
    init = functools.partial(initial_state, Network(2), optax.adam(1e-3), 3, True)
    state = initialize(init)
    assert_same_bits(state, jax.jit(init)())
    everywhere = to_all_devices(state, make_mesh())
    assert_same_bits(everywhere, state)
    assert all(x.sharding == replicated(make_mesh()) for x in jax.tree.leaves(everywhere))


def test_more_blocks_of_one_kind_need_no_more_programs(caplog):
    one, three = (
        compiled(caplog, functools.partial(initial_state, Network(n), optax.sgd(1), 0, False))
        for n in (1, 3)
    )
    assert one == three > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_network_has_the_bits_of_the_jitted_initializer(name):
    model = models.create(**load_config(name, {}).model)
    init = functools.partial(initial_weights, model, ema=False)
    key = jax.random.key(7)
    assert_same_bits(initialize(init, key), jax.jit(init)(key))
