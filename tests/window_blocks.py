"""Window blocks of small random weights, for the tests of their kernels."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr.layers.window_transformer import neighbor_windows

WINDOW, DIM = (3, 8, 8), 12
BARS = {"float32": 2e-6, "bfloat16": 2e-2}  # relative error of a kernel


def make(block, **fields):
    fields = {"shifted": True, "dtype": jnp.float32} | fields
    return block(num_heads=2, window_size=WINDOW, mlp_ratio=2.0, train=False, **fields)


def arguments(size, frames, dtype="float32", seed=0):
    """x and neighbors of a block that refines so many of three frames of a size (h, w)."""
    clip = 3 + 2 * jax.random.normal(jax.random.key(seed), (1, 3, *size, DIM), dtype)
    others = clip[:, : 3 - frames]
    return clip[:, 3 - frames :], neighbor_windows(others, WINDOW, dtype) if frames < 3 else None


def random_variables(block, *args):
    shapes = jax.eval_shape(block.init, jax.random.key(1), *args)
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: np.float32(0.3 * rng.normal(size=leaf.shape)), shapes)
