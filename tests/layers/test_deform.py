import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr.layers.deform import deform_conv2d


def case(name):
    """(config, x, offset, mask, weight, bias) of a golden case, in our layout."""
    manifest, tensors, _ = reference.load("op_deform_conv")
    config = manifest["config"][name]
    x, offset = (reference.channels_last(tensors[f"{name}.{k}"]) for k in ("x", "offset"))
    mask = None
    if config["mask"]:
        mask = jax.nn.sigmoid(reference.channels_last(tensors[f"{name}.mask_logit"]))
    weight = reference.torch_kernel(tensors[f"{name}.weight"])
    how = {"stride": config["stride"], "padding": config["pad"], "dilation": config["dil"]}
    return how, [jnp.asarray(x), offset, mask, weight, tensors[f"{name}.bias"]]


@pytest.mark.parametrize("name", "abcd")
def test_golden(name):
    manifest, _, arrays = reference.load("op_deform_conv")
    how, arguments = case(name)
    expected = arrays[f"{name}/out"]
    conv = functools.partial(deform_conv2d, **how)
    assert reference.relative_error(jax.jit(conv)(*arguments), expected) < 1e-5

    b, h, w, c = expected.shape
    r = reference.channels_last(reference.direction(f"{name}/out", (b, c, h, w), manifest["salt"]))
    names = ["x", "offset", "mask", "weight", "bias"]
    asked = tuple(i for i, argument in enumerate(arguments) if argument is not None)
    gradient = jax.jit(jax.grad(lambda *a: (conv(*a) * r).sum(), argnums=asked))
    for i, value in zip(asked, gradient(*arguments), strict=True):
        value = np.asarray(value, np.float64)
        if names[i] == "weight":
            value = value.transpose(3, 2, 0, 1)
        elif names[i] != "bias":
            value = np.moveaxis(value, -1, 1)
        key = f"{name}.{names[i]}"
        norm, dot = arrays[f"{name}/grad/norm/{key}"], arrays[f"{name}/grad/dot/{key}"]
        assert np.linalg.norm(value) == pytest.approx(norm, rel=1e-3)
        direction = reference.direction(key, value.shape, manifest["salt"])
        assert np.vdot(value, direction) == pytest.approx(dot, abs=1e-3 * norm)


def test_without_offsets_it_is_a_convolution():
    how, (x, offset, _, weight, bias) = case("b")
    out = deform_conv2d(x, jnp.zeros_like(offset), None, weight, bias, **how)
    dimensions = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(
        x, weight, (1, 1), "SAME", dimension_numbers=dimensions, feature_group_count=2
    )
    np.testing.assert_allclose(out, expected + bias, atol=1e-5)


@pytest.mark.parametrize("value", [1e12, -1e12])
def test_offsets_that_have_run_away_look_at_zeros(value):
    how, (x, offset, mask, weight, bias) = case("a")
    out = deform_conv2d(x, jnp.full_like(offset, value), mask, weight, bias, **how)
    np.testing.assert_array_equal(out, np.broadcast_to(bias, out.shape))


def test_bfloat16_keeps_its_dtype_and_its_coordinates():
    how, (x, offset, mask, weight, bias) = case("a")
    out = deform_conv2d(x.astype("bfloat16"), offset, mask, weight, bias, **how)
    assert out.dtype == jnp.bfloat16
    expected = deform_conv2d(x, offset, mask, weight, bias, **how)
    assert reference.relative_error(out.astype("float32"), expected) < 1e-2


def test_what_does_not_fit_is_named():
    how, (x, offset, mask, weight, bias) = case("a")
    with pytest.raises(ValueError, match=r"offset \(2, 19, 26, 72\) must be \(b, 20, 26"):
        deform_conv2d(x, offset[:, 1:], mask, weight, bias, **how)
    with pytest.raises(ValueError, match="mask .* half the channels"):
        deform_conv2d(x, offset, mask[..., 1:], weight, bias, **how)
    with pytest.raises(ValueError, match="weight .* 16 channels into groups"):
        deform_conv2d(x, offset, mask, weight[:, :, :5], bias, **how)
