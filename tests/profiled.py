"""Profiles of small networks, for tests of profiling."""

import functools

import jax
import numpy as np

from jaxvsr import models
from jaxvsr.profiling import measuring

HEIGHT, WIDTH = 16, 24


@functools.cache
def swrn():
    model = models.create("swrn", dim=4, num_blocks=1)
    lq = np.zeros((2, 3, HEIGHT, WIDTH, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), lq)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return measuring.profile([measuring.Subject("swrn", model, lq, variables=zeros)], rounds=2)[0]


@functools.cache
def masked():
    """A small MIA-VSR in which the second block of two computes every token and the first, from
    the second frame on, none: the predictors' biases alone decide."""
    fields = {"dim": 8, "depths": (2,), "num_heads": (2,), "window_size": (3, 4, 4)}
    model = models.create("miavsr", **fields, align=False)
    lq = np.random.default_rng(0).random((1, 4, HEIGHT, WIDTH, 3), np.float32)

    def value(path, leaf):
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        bias = place.endswith("predictor/linear/bias")
        return np.full(leaf.shape, (1 if "block_1" in place else -1) if bias else 0, np.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0), lq)
    variables = jax.tree_util.tree_map_with_path(value, shapes)
    return measuring.profile([measuring.Subject("mia", model, lq, variables=variables)], rounds=1)[
        0
    ]
