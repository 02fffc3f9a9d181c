"""Inputs that every network refuses."""

import jax
import pytest

from jaxvsr import models


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize(
    ("shape", "dtype", "error", "message"),
    [
        ((4, 64, 64, 3), "float32", ValueError, r"lq has shape .* five axes, \(b, t, h, w, 3\)"),
        ((1, 4, 3, 64, 64), "float32", ValueError, "move the channels to the last axis"),
        ((1, 3, 4, 64, 64), "float32", ValueError, "move the channels to the last axis"),
        ((1, 4, 64, 64, 1), "float32", ValueError, r"lq .*; expected \(b, t, h, w, 3\)"),
        ((1, 4, 64, 64, 3), "uint8", TypeError, r"lq is uint8; expected floats in \[0, 1\]"),
        ((1, 4, 64, 64, 3), "int32", TypeError, "lq is int32"),
    ],
)
def test_other_inputs_are_refused(unchecked, name, shape, dtype, error, message):
    model, lq = models.create(name), jax.ShapeDtypeStruct(shape, dtype)
    with pytest.raises(error, match=message):
        jax.eval_shape(model.apply, {}, lq)


@pytest.mark.parametrize("name", ["rvrt", "vrt"])
def test_a_noise_level_map_is_the_fourth_channel(unchecked, name):
    denoiser = models.create(name, scale=1, noise_level=True)
    for model, channels in ((denoiser, 3), (models.create(name), 4)):
        lq = jax.ShapeDtypeStruct((1, 4, 136, 136, channels), "float32")
        with pytest.raises(ValueError, match=rf"expected \(b, t, h, w, {7 - channels}\)"):
            jax.eval_shape(model.apply, {}, lq)
