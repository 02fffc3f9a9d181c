import jax
import jax.numpy as jnp
import jaxprs
import numpy as np
import pytest
import reference

from jaxvsr.layers.warp import flow_warp, nearest_corners, patch_align


@pytest.mark.parametrize("size", ["24x40", "33x29"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_flow_warp_golden(size, padding, interpolation):
    _, tensors, arrays = reference.load("op_flow_warp")
    x = reference.channels_last(tensors[f"x_{size}"])
    flow = jnp.asarray(arrays[f"{size}/flow16"] / np.float32(16))
    out = flow_warp(x, flow, interpolation, padding)
    assert reference.relative_error(out, arrays[f"{size}/{interpolation}_{padding}"]) < 1e-5


@pytest.mark.parametrize("size", ["24x40", "33x29"])
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_flow_warp_gradients_golden(size, padding):
    manifest, tensors, arrays = reference.load("op_flow_warp")
    x = reference.channels_last(tensors[f"x_{size}"])
    flow = arrays[f"{size}/flow16"] / np.float32(16)
    flow[0, 5:7] = flow[0, 7:9]
    key = f"{size}/grad_bilinear_{padding}"
    r = reference.direction(key, tensors[f"x_{size}"].shape, manifest["salt"])
    r = reference.channels_last(r)
    dx, dflow = jax.grad(
        lambda x, flow: (flow_warp(x, flow, padding=padding) * r).sum(), argnums=(0, 1)
    )(x, flow)
    dx = np.moveaxis(dx, -1, -3)
    for name, gradient in ((f"x_{size}", dx), (f"flow_{size}", dflow)):
        norm = arrays[f"{key}/norm/{name}"]
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=1e-5)
        direction = reference.direction(name, gradient.shape, manifest["salt"])
        dot = np.vdot(np.asarray(gradient, np.float64), direction)
        assert dot == pytest.approx(arrays[f"{key}/dot/{name}"], abs=1e-5 * norm)


def test_flow_warp_by_whole_pixels_is_a_shift():
    x = jax.random.normal(jax.random.key(0), (1, 6, 7, 2))
    flow = jnp.broadcast_to(jnp.float32([2, -1]), (1, 6, 7, 2))
    expected = jnp.zeros_like(x).at[:, 1:, :-2].set(x[:, :-1, 2:])
    for interpolation in ("bilinear", "nearest"):
        np.testing.assert_array_equal(flow_warp(x, flow, interpolation), expected)


def test_flow_warp_survives_a_flow_that_has_run_away():
    x = jnp.ones((1, 4, 4, 1))
    for value in (1e12, -1e12):
        flow = jnp.full((1, 4, 4, 2), value)
        np.testing.assert_array_equal(flow_warp(x, flow), 0)
        np.testing.assert_array_equal(flow_warp(x, flow, padding="border"), 1)


def test_flow_warp_names_what_is_wrong(unchecked):
    x, flow = jnp.zeros((1, 4, 4, 1)), jnp.zeros((1, 4, 4, 2))
    with pytest.raises(ValueError, match="'cubic'"):
        flow_warp(x, flow, interpolation="cubic")
    with pytest.raises(ValueError, match="'circular'"):
        flow_warp(x, flow, padding="circular")
    with pytest.raises(ValueError, match="flow"):
        flow_warp(x, flow[:, :3])


@pytest.mark.parametrize("size", ["64x64", "66x75"])
def test_patch_align_golden(size):
    manifest, tensors, arrays = reference.load("op_patch_align")
    x = reference.channels_last(tensors[f"x_{size}"])
    flow = jnp.asarray(arrays[f"{size}/flow256"] / np.float32(256))
    assert reference.relative_error(patch_align(x, flow), arrays[f"{size}/out"]) < 1e-5

    r = reference.direction(f"{size}/grad", tensors[f"x_{size}"].shape, manifest["salt"])
    r = reference.channels_last(r)
    dx, dflow = jax.grad(lambda x, flow: (patch_align(x, flow) * r).sum(), argnums=(0, 1))(x, flow)
    dx = np.moveaxis(dx, -1, -3)
    assert np.linalg.norm(dx) == pytest.approx(arrays[f"{size}/grad/norm/x_{size}"], rel=1e-5)
    direction = reference.direction(f"x_{size}", dx.shape, manifest["salt"])
    dot = np.vdot(np.asarray(dx, np.float64), direction)
    assert dot == pytest.approx(arrays[f"{size}/grad/dot/x_{size}"], rel=1e-5)
    assert not np.any(dflow)


def test_patch_align_far_out_is_zero_and_at_rest_identity():
    x = jax.random.normal(jax.random.key(0), (2, 11, 19, 3))
    rest = jnp.full((2, 11, 19, 2), 0.3)
    np.testing.assert_array_equal(patch_align(x, rest), x)
    for far in ((500, 0), (0, -500), (-500, 500)):
        np.testing.assert_array_equal(patch_align(x, rest + jnp.float32(far)), 0)


def test_patch_align_is_nearest_sampling_by_the_mean_flow():
    x, flow = jax.random.normal(jax.random.key(1), (2, 1, 16, 24, 2))
    flow = 9 * flow
    mean = flow.reshape(1, 2, 8, 3, 8, 2).mean((2, 4))
    mean = mean.repeat(8, axis=1).repeat(8, axis=2)
    np.testing.assert_array_equal(patch_align(x, flow), flow_warp(x, mean, "nearest"))


def test_nearest_corners_are_the_four_pixels_around():
    x = jnp.arange(12, dtype=jnp.float32).reshape(1, 3, 4, 1)
    flow = jnp.broadcast_to(jnp.array([0.25, 1.5]), (1, 3, 4, 2))
    out = nearest_corners(x, flow)
    # At (0, 0): x 0.25, y 1.5. At (1, 3): x 3.25, beyond the last column, and y 2.5 likewise.
    np.testing.assert_array_equal(out[0, 0, 0], [x[0, 1, 0, 0], x[0, 2, 0, 0], 5, 9])
    np.testing.assert_array_equal(out[0, 1, 3], [11, 0, 0, 0])
    whole = nearest_corners(x, jnp.zeros_like(flow))
    np.testing.assert_array_equal(whole, jnp.tile(x, 4))
    gradient = jax.grad(lambda flow: nearest_corners(x, flow).sum())(flow)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("align", [flow_warp, patch_align, nearest_corners])
def test_no_product_of_low_precision_moves_a_sample(align):
    """Coordinates and weights are float32 also on devices whose default is less."""
    x, flow = jnp.ones((1, 16, 16, 4), jnp.bfloat16), jnp.ones((1, 16, 16, 2))
    assert all(map(jaxprs.is_exact, jaxprs.products(align, x, flow)))
