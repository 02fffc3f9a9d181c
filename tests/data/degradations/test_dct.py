"""JPEG as arithmetic, compared with the official numbers."""

import numpy as np
import pytest
import reference

from jaxvsr.data.degradations import jpeg_dct


@pytest.fixture(scope="module")
def golden():
    manifest, _, arrays = reference.load("degrade_real")
    return manifest["config"], arrays, arrays["in"].astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("quality", [30, 80])
def test_jpeg_dct_equals_the_golden_case(golden, quality):
    _, arrays, frame = golden
    decoded = jpeg_dct(frame, quality)
    assert decoded.dtype == np.float32
    assert reference.relative_error(decoded, arrays[f"jpeg/{quality}"]) < 1e-6


def test_jpeg_dct_takes_one_quality_or_one_per_frame():
    frames = np.random.default_rng(2).uniform(size=(2, 16, 16, 3)).astype(np.float32)
    both = jpeg_dct(frames, np.array([20, 90]))
    np.testing.assert_array_equal(both[0], jpeg_dct(frames[0], 20))
    np.testing.assert_array_equal(both[1], jpeg_dct(frames[1], 90))
    errors = np.abs(both - frames).mean((1, 2, 3))
    assert errors[0] > errors[1]


def test_jpeg_dct_treats_frames_one_by_one():
    frames = np.random.default_rng(1).integers(0, 256, (2, 2, 20, 33, 3), np.uint8)
    result = jpeg_dct(frames, 60)
    assert result.shape == frames.shape and result.dtype == np.uint8
    np.testing.assert_array_equal(jpeg_dct(frames[1, 0], 60), result[1, 0])


FRAMES = np.zeros((2, 8, 8, 3), np.float32)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: jpeg_dct(FRAMES[..., :1], 50), ValueError, "RGB"),
        (lambda: jpeg_dct(FRAMES, np.int64(0)), ValueError, "quality must be in 1..100"),
        (lambda: jpeg_dct(FRAMES, np.array([50, 101])), ValueError, "quality must be in 1..100"),
        (lambda: jpeg_dct(FRAMES, np.array([50, 60, 70])), ValueError, "or one per frame"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()
