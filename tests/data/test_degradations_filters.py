"""Filters, noise and the arithmetic of JPEG, against the official numbers; their contracts."""

import numpy as np
import pytest
import reference

from jaxvsr.data.degradations import (
    add_noise,
    blur,
    gaussian_kernel,
    jpeg_dct,
    plateau_kernel,
    sinc_kernel,
    usm_sharp,
    with_noise_map,
)


@pytest.fixture(scope="module")
def golden():
    manifest, _, arrays = reference.load("degrade_real")
    return manifest["config"], arrays, arrays["in"].astype(np.float32) / np.float32(255)


def make_kernel(spec):
    if spec["type"] == "sinc":
        return sinc_kernel(spec["kernel_size"], spec["omega"])
    make = plateau_kernel if spec["type"].startswith("plateau") else gaussian_kernel
    shape = {name: spec[name] for name in ("theta", "beta") if name in spec}
    return make(spec["kernel_size"], spec["sig_x"], spec.get("sig_y"), **shape)


def test_kernels_equal_the_golden_case(golden):
    config, arrays, _ = golden
    assert len(config["kernels"]) == 9
    for number, spec in enumerate(config["kernels"]):
        np.testing.assert_allclose(make_kernel(spec), arrays[f"kernel/{number}"], atol=1e-15)


def test_blur_equals_the_golden_case(golden):
    _, arrays, frame = golden
    expected = arrays["blurred/2"]
    assert reference.relative_error(255 * blur(frame, arrays["kernel/2"]), expected) < 1e-6
    rounded = blur(arrays["in"], arrays["kernel/2"])
    assert rounded.dtype == np.uint8
    np.testing.assert_array_equal(rounded, np.floor(expected + 0.5))


def test_usm_sharp_equals_the_golden_case(golden):
    _, arrays, frame = golden
    assert reference.relative_error(usm_sharp(frame), arrays["usm"]) < 1e-6
    assert np.abs(usm_sharp(arrays["in"]) - arrays["usm255"]).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("quality", [30, 80])
def test_jpeg_dct_equals_the_golden_case(golden, quality):
    _, arrays, frame = golden
    decoded = jpeg_dct(frame, quality)
    assert decoded.dtype == np.float32
    assert reference.relative_error(decoded, arrays[f"jpeg/{quality}"]) < 1e-6


def test_blur_is_a_correlation_mirrored_at_the_border_pixels():
    frame = np.arange(1.0, 6.0).reshape(1, 5, 1)
    kernel = np.zeros((3, 3))
    kernel[1, 2] = 1  # takes the right neighbour
    np.testing.assert_allclose(blur(frame, kernel)[0, :, 0], [2, 3, 4, 5, 4])


def test_blur_takes_one_kernel_or_one_of_each_frame():
    frames = np.random.default_rng(0).uniform(size=(2, 12, 9, 3))
    kernels = np.stack([gaussian_kernel(7, 1.0), sinc_kernel(7, 2.0)])
    both = blur(frames, kernels)
    for frame, kernel, blurred in zip(frames, kernels, both, strict=True):
        np.testing.assert_allclose(blur(frame, kernel), blurred, atol=1e-12)
    np.testing.assert_allclose(blur(frames, kernels[0])[0], both[0], atol=1e-12)


def test_blur_of_frames_smaller_than_the_kernel():
    frame = np.full((2, 1, 3), 140, np.uint8)
    assert (blur(frame, gaussian_kernel(21, 3.0)) == 140).all()


@pytest.mark.parametrize("filtered", [usm_sharp, lambda x: jpeg_dct(x, 60)])
def test_filters_treat_frames_one_by_one(filtered):
    frames = np.random.default_rng(1).integers(0, 256, (2, 2, 20, 33, 3), np.uint8)
    result = filtered(frames)
    assert result.shape == frames.shape and result.dtype == np.uint8
    np.testing.assert_array_equal(filtered(frames[1, 0]), result[1, 0])


def test_usm_sharp_leaves_what_is_smooth():
    smooth = np.tile(np.linspace(0.2, 0.6, 64), (64, 1))[..., None]
    np.testing.assert_array_equal(usm_sharp(smooth, size=11), smooth)


def test_jpeg_dct_takes_one_quality_or_one_of_each_frame():
    frames = np.random.default_rng(2).uniform(size=(2, 16, 16, 3)).astype(np.float32)
    both = jpeg_dct(frames, np.array([20, 90]))
    np.testing.assert_array_equal(both[0], jpeg_dct(frames[0], 20))
    np.testing.assert_array_equal(both[1], jpeg_dct(frames[1], 90))
    errors = np.abs(both - frames).mean((1, 2, 3))
    assert errors[0] > errors[1]


def test_noise_has_the_level_that_the_map_says():
    frames = np.full((2, 64, 64, 3), 128, np.uint8)
    sigma = np.array([10.0, 40.0])
    noisy = add_noise(frames, sigma, np.random.default_rng(3))
    assert noisy.dtype == np.float32 and noisy.shape == frames.shape
    noise = 255 * (noisy - np.float32(128 / 255))
    np.testing.assert_allclose(noise.std((1, 2, 3)), sigma, rtol=0.03)
    np.testing.assert_allclose(noise.mean((1, 2, 3)), 0, atol=1.5)
    assert noisy.max() > 1  # not clipped
    lq = with_noise_map(noisy, sigma)
    assert lq.shape == (2, 64, 64, 4) and lq.dtype == np.float32
    np.testing.assert_array_equal(lq[..., :3], noisy)
    np.testing.assert_allclose(lq[..., 3], np.broadcast_to(sigma[:, None, None] / 255, (2, 64, 64)))


def test_noise_is_drawn_from_the_generator_alone():
    frames = np.zeros((4, 4, 3))
    first = add_noise(frames, 5, np.random.default_rng(4))
    np.testing.assert_array_equal(first, add_noise(frames, 5, np.random.default_rng(4)))
    assert (first != add_noise(frames, 5, np.random.default_rng(5))).all()


FRAMES = np.zeros((2, 8, 8, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gaussian_kernel(8, 1.0), ValueError, "odd, got 8"),
        (lambda: gaussian_kernel(7, 0.0), ValueError, "sigma"),
        (lambda: plateau_kernel(7, 1.0, -1.0), ValueError, "sigma"),
        (lambda: plateau_kernel(7, 1.0, beta=0), ValueError, "beta"),
        (lambda: sinc_kernel(7, 3.5), ValueError, "cutoff"),
        (lambda: blur(FRAMES, np.ones((4, 4))), ValueError, "odd k"),
        (lambda: blur(FRAMES, np.ones((3, 3, 3))), ValueError, "one kernel or one per frame"),
        (lambda: blur(FRAMES.astype(int), np.ones((3, 3))), TypeError, "int64"),
        (lambda: usm_sharp(FRAMES, size=50), ValueError, "odd, got 50"),
        (lambda: jpeg_dct(FRAMES[..., :1], 50), ValueError, "RGB"),
        (lambda: jpeg_dct(FRAMES, np.int64(0)), ValueError, "quality must be in 1..100"),
        (lambda: jpeg_dct(FRAMES, np.array([50, 101])), ValueError, "quality must be in 1..100"),
        (lambda: jpeg_dct(FRAMES, np.array([50, 60, 70])), ValueError, "or one per frame"),
        (lambda: add_noise(FRAMES, np.ones(3), np.random.default_rng()), ValueError, "sigma"),
        (lambda: with_noise_map(FRAMES.astype(np.uint8), 5), TypeError, "float"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()
