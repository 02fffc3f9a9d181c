import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr.layers.deform import _corners, _look, deform_attention, deform_conv2d
from jaxvsr.models.rvrt import GuidedDeformAttention
from jaxvsr.weights.rules import take_over
from jaxvsr.weights.rvrt import RVRT as RULES


def case(name):
    """(config, x, offset, mask, weight, bias) of a golden case, in our layout."""
    manifest, tensors, _ = reference.load("op_deform_conv")
    config = manifest["config"][name]
    x, offset = (reference.channels_last(tensors[f"{name}.{k}"]) for k in ("x", "offset"))
    mask = None
    if config["mask"]:
        mask = jax.nn.sigmoid(reference.channels_last(tensors[f"{name}.mask_logit"]))
    weight = jnp.asarray(reference.torch_kernel(tensors[f"{name}.weight"]))
    how = {"stride": config["stride"], "padding": config["pad"], "dilation": config["dil"]}
    return how, [x, offset, mask, weight, jnp.asarray(tensors[f"{name}.bias"])]


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


def test_what_does_not_fit_is_named(unchecked):
    how, (x, offset, mask, weight, bias) = case("a")
    with pytest.raises(ValueError, match=r"offset \(2, 19, 26, 72\) must be \(b, 20, 26"):
        deform_conv2d(x, offset[:, 1:], mask, weight, bias, **how)
    with pytest.raises(ValueError, match="mask .* half the channels"):
        deform_conv2d(x, offset, mask[..., 1:], weight, bias, **how)
    with pytest.raises(ValueError, match="weight .* 16 channels into groups"):
        deform_conv2d(x, offset, mask, weight[:, :, :5], bias, **how)


def official_name(place):
    return RULES.official_name(f"deform_align/x/{place}").removeprefix("deform_align.x.")


def test_guided_deformable_attention_golden():
    manifest, tensors, arrays = reference.load("rvrt_deform_attn")
    module = GuidedDeformAttention(
        dim=12, num_heads=6, groups=4, window=(3, 3), max_residue=10.0, dtype=jnp.float32
    )
    names = ["q", "k", "v", "warped1", "warped2", "flow1", "flow2"]
    inputs = [jnp.asarray(arrays[f"module/{name}"]) for name in names]

    def attend(params, q, k, v, warped1, warped2, flow1, flow2):
        out, (updated1, updated2) = module.apply(
            {"params": params}, q, k, v, (warped1, warped2), (flow1, flow2), method="attend"
        )
        outputs = {"out": out, "updated_flow1": updated1, "updated_flow2": updated2}
        products = [(y * arrays[f"module/cotangent_{key}"]).sum() for key, y in outputs.items()]
        return sum(products), outputs

    q, k, v, *guides = inputs
    how = {"method": "attend"}
    shapes = jax.eval_shape(
        lambda: module.init(jax.random.key(0), q, k, v, tuple(guides[:2]), tuple(guides[2:]), **how)
    )
    rules = type(RULES)(((r"^(.*)$", lambda m: official_name(m[1])),))
    params = take_over(shapes["params"], rules, tensors, reference.torch_kernel)

    asked = tuple(range(1 + len(inputs)))
    gradient = jax.jit(jax.grad(attend, argnums=asked, has_aux=True))
    (dparams, *dinputs), outputs = gradient(params, *inputs)
    for key, y in outputs.items():
        np.testing.assert_allclose(y, arrays[f"module/{key}"], atol=5e-5)
    for name, dx in zip(names, dinputs, strict=True):
        if name != "warped2":
            assert reference.relative_error(dx, arrays[f"module/grad_{name}"]) < 1e-4
    # Kinks of bilinear sampling at integer positions: see RVRT's gradients.
    reference.assert_gradients(dparams, official_name, manifest, arrays, 2e-3)


def attention_case():
    """q, k, v and offsets that lead over the edges, of 2 heads and 4 deformable groups.

    A CPU computes the rows in two chunks.
    """
    rng = np.random.default_rng(0)
    shapes = (1, 2, 9, 6, 8), (1, 2, 9, 6, 16), (1, 2, 9, 6, 2 * 2 * 4 * 9)
    q, kv, offset = (jnp.float32(rng.normal(size=shape)) for shape in shapes)
    return q, *jnp.split(kv, 2, axis=-1), 3 * offset


def test_deform_attention_is_what_it_says_place_by_place():
    q, k, v, offset = attention_case()
    actual = jax.jit(deform_attention, static_argnums=4)(q, k, v, offset, 2)
    padded = np.pad(np.concatenate([k[0], v[0]], axis=-1), ((0, 0), (1, 2), (1, 2), (0, 0)))
    q, offset = np.asarray(q), np.asarray(offset).reshape(2, 9, 6, 2, 4, 9, 2)
    for t, y, x in np.ndindex(2, 9, 6):
        samples = np.zeros((2, 9, 4, 4))
        for n, group, tap in np.ndindex(2, 4, 9):
            dy, dx = offset[t, y, x, n, group, tap]
            # Far enough outside is outside.
            py = np.clip(y - 1 + tap // 3 + dy, -1, 9) + 1
            px = np.clip(x - 1 + tap % 3 + dx, -1, 6) + 1
            i, j, wy, wx = int(py), int(px), py % 1, px % 1
            corners = padded[(n + t) % 2, i : i + 2, j : j + 2, 4 * group : 4 * group + 4]
            samples[n, tap, group] = np.einsum("i,j,ijc", (1 - wy, wy), (1 - wx, wx), corners)
        k, v = samples.reshape(18, 2, 2, 4).swapaxes(0, 1)
        logits = np.einsum("hc,phc->hp", q[0, t, y, x].reshape(2, 4), k) / 2
        weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        expected = np.einsum("hp,phc->hc", weights, v).ravel()
        np.testing.assert_allclose(actual[0, t, y, x], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("platform", "train", "loops"),
    [("cpu", False, 2), ("tpu", False, 2), ("cuda", False, 1), ("cpu", True, 1), ("tpu", True, 1)],
)
def test_deform_attention_computes_rows_in_chunks_for_inference(platform, train, loops):
    q, offset = (jnp.zeros((2, 2, 45, 3, channels)) for channels in (8, 2 * 2 * 9))
    attend = functools.partial(deform_attention, num_heads=2, train=train)
    traced = jax.jit(attend).trace(q, q, q, offset)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.while") == loops  # over taps, and over chunks


def test_deform_attention_keeps_its_dtype():
    q, k, v, offset = attention_case()
    half = deform_attention(*(jnp.bfloat16(x) for x in (q, k, v)), offset, 2)
    assert half.dtype == jnp.bfloat16
    expected = deform_attention(q, k, v, offset, 2)
    assert reference.relative_error(half.astype("float32"), expected) < 2e-2


def test_attention_that_does_not_fit_is_named(unchecked):
    q, k, v, offset = attention_case()
    with pytest.raises(ValueError, match="q .*, k .* and v .* must have one shape"):
        deform_attention(q, k[..., 1:], v, offset, 2)
    with pytest.raises(ValueError, match="8 channels of q .* 3 heads"):
        deform_attention(q, k, v, offset, 3)
    with pytest.raises(ValueError, match=r"offset .* 2\*d\*18\) with d a divisor of 16"):
        deform_attention(q, k, v, offset[..., :-36], 2)


def test_samples_on_a_cpu_are_those_on_other_platforms():
    # The forward pass of a gradient takes the form that other platforms always take.
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 3, 5, 7, 8)), jnp.float32)
    ys, xs = (jnp.asarray(rng.uniform(-3, 10, (2, 2, 4, 6)), jnp.float32) for _ in range(2))
    frame = jnp.array([0, 2])[:, None, None]

    def sample(x):
        return _look((5, 7), _corners(x, 4, with_pixels=True), frame, ys, xs, jnp.float32(0.5))

    np.testing.assert_allclose(sample(x), jax.vjp(sample, x)[0], rtol=1e-6, atol=1e-6)
