"""Built-in weights of SpyNet."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr.models.spynet import SpyNet
from jaxvsr.weights.spynet import BUILTIN_FILE, builtin_spynet
from tfds_builders.dead_leaves import render


def test_builtin_weights_fit_spynet_and_say_how_they_were_made():
    params = builtin_spynet()
    frame = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(SpyNet().init, jax.random.key(0), frame, frame)["params"]
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), shapes
    )
    assert BUILTIN_FILE.stat().st_size < 3e6
    config = json.loads(BUILTIN_FILE.with_suffix(".json").read_text())
    assert config["train"].keys() >= {"seed", "steps"} and config["scores"]["epe"] < 0.2


def test_builtin_flow_is_closer_to_the_true_flow_than_zero():
    clip = render.render_clip(0, "val", 0, 2, (256, 256))  # a split that no training saw
    ref, supp = (jnp.asarray(clip["lq"][i : i + 1], jnp.float32) / 255 for i in (0, 1))
    flow = jax.jit(SpyNet().apply)({"params": builtin_spynet()}, ref, supp)
    true, seen = clip["flow_backward"][:1], clip["visible_backward"][:1] > 0
    errors = [np.linalg.norm(x - true, axis=-1)[seen].mean() for x in (flow, 0 * true)]
    assert errors[0] < errors[1] / 2
