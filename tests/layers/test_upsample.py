import jax
import jax.numpy as jnp
import jaxprs
import numpy as np
import pytest
import reference

from jaxvsr.layers import upsample

MANIFEST, TENSORS, ARRAYS = reference.load("op_misc")
IMAGE = jnp.float32(ARRAYS["img"]) / 255


@pytest.mark.parametrize(
    ("key", "image", "size", "how"),
    [
        ("bilinear_x4", IMAGE, (44, 56), {}),
        ("bilinear_to_17x9", IMAGE, (17, 9), {}),
        ("bicubic_x4", IMAGE, (44, 56), {"method": "bicubic"}),
        ("bicubic_to_17x9", IMAGE, (17, 9), {"method": "bicubic"}),
        ("bicubic_quarter", IMAGE[:8, :12], (2, 3), {"method": "bicubic"}),
        ("bilinear_x2_corners", IMAGE, (22, 28), {"align_corners": True}),
        ("bilinear_x2_corners_1x1", IMAGE[:1, :1], (2, 2), {"align_corners": True}),
    ],
)
def test_resize_golden(key, image, size, how):
    assert reference.relative_error(upsample.resize(image, size, **how), ARRAYS[key]) < 1e-5


def test_resize_keeps_batch_axes_and_dtype():
    frames = jnp.asarray(np.stack([IMAGE, IMAGE[::-1]])[None], jnp.bfloat16)
    out = upsample.resize(frames, (22, 28))
    assert out.shape == (1, 2, 22, 28, 3) and out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out[0, 1], upsample.resize(frames[0, 1], (22, 28)))


def test_resize_names_an_unknown_method():
    with pytest.raises(ValueError, match="'lanczos'"):
        upsample.resize(IMAGE, (4, 4), "lanczos")


@pytest.mark.parametrize("factor", [2, 4])
def test_pixel_shuffle_golden(factor):
    x = reference.channels_last(TENSORS["ps"])
    out = upsample.pixel_shuffle(x, factor)
    np.testing.assert_array_equal(out[0], ARRAYS[f"pixel_shuffle_{factor}"])
    np.testing.assert_array_equal(upsample.pixel_unshuffle(out, factor), x)


def test_pixel_unshuffle_golden():
    x = reference.channels_last(TENSORS["ps"])[:, :, :4]
    np.testing.assert_array_equal(upsample.pixel_unshuffle(x, 2)[0], ARRAYS["pixel_unshuffle_2"])


def test_depth_to_space_puts_row_then_column_before_color():
    x = jnp.arange(2 * 3 * 12.0).reshape(1, 2, 3, 12)
    out = upsample.depth_to_space(x, 2)
    for i, j, y, z in np.ndindex(2, 2, 2, 3):
        np.testing.assert_array_equal(
            out[0, 2 * y + i, 2 * z + j], x[0, y, z, (2 * i + j) * 3 :][:3]
        )


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_head_enlarges_by_its_scale(scale):
    head = upsample.PixelShuffleHead(scale, features_hr=4)
    x = jnp.zeros((2, 3, 5, 7, 6))
    sr, _ = jax.eval_shape(head.init_with_output, jax.random.key(0), x)
    assert sr.shape == (2, 3, 5 * scale, 7 * scale, 3) and sr.dtype == jnp.float32


def test_head_names_a_scale_that_it_cannot_do():
    with pytest.raises(ValueError, match="scale 6"):
        upsample.PixelShuffleHead(6).init(jax.random.key(0), jnp.zeros((1, 4, 4, 4)))


def test_flows_and_frames_are_resized_in_full_float32():
    products = jaxprs.products(lambda x: upsample.resize(x, (12, 20)), jnp.ones((1, 8, 8, 2)))
    assert products and all(map(jaxprs.is_exact, products))
