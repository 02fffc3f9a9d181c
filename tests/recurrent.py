"""What the tests of the networks of the BasicVSR family have in common."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import reference

from jaxvsr import models, weights
from jaxvsr.layers.upsample import resize
from jaxvsr.training.losses import charbonnier


@dataclasses.dataclass(frozen=True)
class Official:
    """A network with the weights of a golden case, and the case."""

    model: Any
    variables: Any
    manifest: dict
    arrays: dict

    @property
    def lq(self):
        return jnp.asarray(self.arrays["lq"][None] / np.float32(255))


def official(case, name, **fields):
    manifest, tensors, arrays = reference.load(case)
    variables = weights.from_torch(name, tensors, **fields)
    return Official(models.create(name, **fields), variables, manifest, arrays)


def assert_golden(official, keys, in_call_order=(), lq=None, bar=1e-4):
    """Compares the image and what is sown, of which some was stored last frame first."""

    @jax.jit
    def run(variables, lq):
        sr, sown = official.model.apply(variables, lq, mutable=["intermediates"])
        sown = {key: sown["intermediates"][key][0][0] for key in keys}
        return {"sr": sr[0]} | {k: v[::-1] if k in in_call_order else v for k, v in sown.items()}

    results = run(official.variables, official.lq if lq is None else lq)
    for key, value in results.items():
        reference.assert_frames(value, official.manifest, official.arrays, key, bar)
    return results["sr"]


def assert_gradients_golden(official, official_name, gt=None, eps=1e-12, bar=1e-3):
    """Compares the loss and its gradients; the target is the enlarged input if not given."""
    lq, arrays = official.lq, official.arrays
    h, w = lq.shape[2:4]
    scale = official.model.scale
    if gt is None:
        gt = jnp.clip(resize(lq, (scale * h, scale * w), "bicubic"), 0, 1)

    @jax.jit
    @jax.value_and_grad
    def gradient(params):
        return charbonnier(official.model.apply({"params": params}, lq, train=True), gt, eps).mean()

    loss, gradients = gradient(official.variables["params"])
    np.testing.assert_allclose(loss, arrays["train/loss"], rtol=1e-4)
    reference.assert_gradients(gradients, official_name, official.manifest, arrays, bar)


def parameter_count(name, **fields):
    model = models.create(name, **fields)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, 64, 64, 3)))
    assert list(variables) == ["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


class Tiny:
    """A network of small random weights and two clips."""

    def __init__(self, model, size=(18, 23), frames=3, spread=0.1, **how):
        self.model = model
        self.lq = jax.random.uniform(jax.random.key(0), (2, frames, *size, 3))
        # Some layers would start as zero: what is behind them must matter.
        shapes = jax.eval_shape(model.init, jax.random.key(0), self.lq)
        rng = np.random.default_rng(1)
        self.variables = jax.tree.map(
            lambda leaf: np.float32(spread * rng.normal(size=leaf.shape)), shapes
        )
        self.apply = jax.jit(model.apply, **how)

    @functools.cached_property
    def expected(self):
        return self.apply(self.variables, self.lq)

    def assert_clips_do_not_meet(self):
        for i in range(2):
            alone = self.apply(self.variables, self.lq[i : i + 1])
            np.testing.assert_allclose(self.expected[i], alone[0], atol=5e-5)

    def assert_clips_do_not_meet_and_every_frame_counts(self, least):
        """What is seen late in a clip changes all of its frames, and no other clip's."""
        other = self.apply(self.variables, self.lq.at[0, -1, :, self.lq.shape[3] // 2 :].set(0.5))
        np.testing.assert_allclose(other[1], self.expected[1], atol=1e-5)
        assert (np.abs(other[0] - self.expected[0]).max((1, 2, 3)) > least).all()

    def assert_speed_settings_change_nothing(self, *settings, atol=1e-5):
        for setting in settings or ({"remat": True}, {"unroll": 2}):
            sr = jax.jit(self.model.clone(**setting).apply)(self.variables, self.lq)
            np.testing.assert_allclose(sr, self.expected, atol=atol)

    def assert_bfloat16_is_near(self, frames=None):
        lq = self.lq[:, :frames]
        exact = self.apply(self.variables, lq)
        half = jax.jit(self.model.clone(dtype="bfloat16").apply)(self.variables, lq)
        assert half.dtype == jnp.float32
        assert reference.relative_error(half, exact) < 3e-2
        return exact

    def assert_single_frame_and_bfloat16_work(self):
        scale = self.model.scale
        sr = self.assert_bfloat16_is_near(frames=1)
        assert sr.shape == (2, 1, *(scale * side for side in self.lq.shape[2:4]), 3)
