"""Blur and unsharp masking, compared with the official numbers."""

import numpy as np
import pytest
import reference

from jaxvsr.data.degradations import blur, gaussian_kernel, sinc_kernel, usm_sharp


@pytest.fixture(scope="module")
def golden():
    manifest, _, arrays = reference.load("degrade_real")
    return manifest["config"], arrays, arrays["in"].astype(np.float32) / np.float32(255)


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


def test_blur_is_a_correlation_mirrored_at_the_border_pixels():
    frame = np.arange(1.0, 6.0).reshape(1, 5, 1)
    kernel = np.zeros((3, 3))
    kernel[1, 2] = 1  # takes the right neighbor
    np.testing.assert_allclose(blur(frame, kernel)[0, :, 0], [2, 3, 4, 5, 4])


def test_blur_takes_one_kernel_or_one_per_frame():
    frames = np.random.default_rng(0).uniform(size=(2, 12, 9, 3))
    kernels = np.stack([gaussian_kernel(7, 1.0), sinc_kernel(7, 2.0)])
    both = blur(frames, kernels)
    for frame, kernel, blurred in zip(frames, kernels, both, strict=True):
        np.testing.assert_allclose(blur(frame, kernel), blurred, atol=1e-12)
    np.testing.assert_allclose(blur(frames, kernels[0])[0], both[0], atol=1e-12)


def test_blur_of_frames_smaller_than_the_kernel():
    frame = np.full((2, 1, 3), 140, np.uint8)
    assert (blur(frame, gaussian_kernel(21, 3.0)) == 140).all()


def test_usm_sharp_treats_frames_one_by_one():
    frames = np.random.default_rng(1).integers(0, 256, (2, 2, 20, 33, 3), np.uint8)
    result = usm_sharp(frames)
    assert result.shape == frames.shape and result.dtype == np.uint8
    np.testing.assert_array_equal(usm_sharp(frames[1, 0]), result[1, 0])


def test_usm_sharp_keeps_smooth_areas():
    smooth = np.tile(np.linspace(0.2, 0.6, 64), (64, 1))[..., None]
    np.testing.assert_array_equal(usm_sharp(smooth, size=11), smooth)


FRAMES = np.zeros((2, 8, 8, 3), np.float32)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: blur(FRAMES, np.ones((4, 4))), ValueError, "odd k"),
        (lambda: blur(FRAMES, np.ones((3, 3, 3))), ValueError, "one kernel or one per frame"),
        (lambda: blur(FRAMES.astype(int), np.ones((3, 3))), TypeError, "int64"),
        (lambda: usm_sharp(FRAMES, size=50), ValueError, "odd, got 50"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()
