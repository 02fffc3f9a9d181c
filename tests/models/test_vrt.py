"""VRT as a whole network, for every task."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from configs.vrt import get_config
from jaxvsr import models, restore, weights
from jaxvsr.losses import charbonnier
from jaxvsr.weights.rules import take_over
from jaxvsr.weights.vrt import VRT as RULES

# The tests are mostly compilation.
QUICKLY_COMPILED = {"xla_backend_optimization_level": 0}
FIELDS = {  # ours -> the official code's
    "scale": "upscale",
    "dims": "embed_dims",
    "deform_groups": "deformable_groups",
    **{
        name: name
        for name in (
            *("depths", "num_heads", "window_size", "indep_reconsts", "mul_attn_ratio"),
            "pa_frames",
        )
    },
}
CASES = ("vrt_tiny", *(f"vrt_tiny_{kind}" for kind in ("pa4", "pa6", "deblur", "denoise", "vfi")))


@functools.cache
def official(case):
    """Model, variables, manifest, arrays and the clip (1, t, h, w, c) of a golden case."""
    manifest, tensors, arrays = reference.load(case)
    config = manifest["config"]
    fields = {ours: config[theirs] for ours, theirs in FIELDS.items()}
    fields["noise_level"] = config.get("nonblind_denoising", False)
    fields["interpolation"] = not config["pa_frames"]
    lq = arrays["lq"][None] / np.float32(255)
    if "noise_level" in arrays:
        level = np.full((*lq.shape[:-1], 1), arrays["noise_level"], np.float32)
        level[..., : lq.shape[3] // 2, :] /= 2  # as in the case's manifest
        lq = np.concatenate([lq, level], axis=-1)
    variables = weights.from_torch("vrt", tensors, **fields)
    return models.create("vrt", **fields), variables, manifest, arrays, jnp.asarray(lq)


@functools.cache
def outputs(case):
    """What the network makes of a golden case's clip: the image, and what is sown."""
    model, variables, _, _, lq = official(case)
    apply = functools.partial(model.apply, mutable="intermediates")
    run = jax.jit(apply, compiler_options=QUICKLY_COMPILED)
    with jax.default_matmul_precision("highest"):
        sr, sown = run(variables, lq)
    sown = {k: v[0][0] for k, v in sown["intermediates"].items() if isinstance(v, tuple)}
    return {"sr": sr[0]} | {k.removeprefix("feat_"): v for k, v in sown.items()}


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    _, _, manifest, arrays, _ = official(case)
    out = outputs(case)
    for key in manifest["cases"]:
        if key in out:
            reference.assert_frames(out[key], manifest, arrays, key, 1e-4)
    h0, h1, w0, w1 = manifest["cases"]["sr"]["window"]
    error = np.abs(out["sr"][:, h0:h1, w0:w1] - arrays["sr/crop"])
    assert error.max() < 1e-3 and error.mean() < 5e-5


@pytest.mark.slow
@pytest.mark.parametrize("case", ["vrt_tiny", "vrt_tiny_denoise", "vrt_tiny_vfi"])
def test_gradients_golden(case):
    model, variables, manifest, arrays, lq = official(case)
    gt = lq[..., :3].repeat(model.scale, axis=2).repeat(model.scale, axis=3)
    if model.scale == 1:
        gt = gt[:, :, :, ::-1]
    if model.interpolation:
        gt = gt[:, :1]

    @functools.partial(jax.jit, compiler_options=QUICKLY_COMPILED)
    @jax.value_and_grad
    def gradient(params):
        return charbonnier(model.apply({"params": params}, lq, train=True), gt, 1e-9).mean()

    loss, gradients = gradient(variables["params"])
    np.testing.assert_allclose(loss, arrays["train/loss"], rtol=1e-5)
    reference.assert_gradients(gradients, RULES.official_name, manifest, arrays, 3e-2)
