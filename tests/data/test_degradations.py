"""imresize against MATLAB's numbers, and its contract."""

import subprocess
import sys

import numpy as np
import pytest
import reference

from jaxvsr.data.degradations import imresize

SCALES = {"x0.25": 1 / 4, "x0.5": 1 / 2, "x0.3333": 1 / 3, "x4": 4, "x2": 2, "x3": 3}


def golden_outputs():
    _, _, arrays = reference.load("degrade_bicubic")
    for name, expected in arrays.items():
        kind, *rest = name.split("/")
        if kind.startswith("out"):
            yield pytest.param(kind, arrays[f"in/{rest[0]}"], SCALES[rest[1]], expected, id=name)


@pytest.mark.parametrize(("kind", "frame", "scale", "expected"), list(golden_outputs()))
def test_equals_the_golden_case(kind, frame, scale, expected):
    if kind == "out_u8":
        np.testing.assert_array_equal(imresize(frame, scale), expected)
        return
    actual = imresize(frame.astype(np.float32) / np.float32(255), scale)
    actual = {"out": actual, "out_tl": actual[:32, :32], "out_br": actual[-32:, -32:]}[kind]
    assert actual.dtype == np.float32
    assert np.linalg.norm(actual - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("case", ["64_x0.25", "50_x0.25", "16_x4", "33_x0.3333"])
def test_equals_the_golden_matrices(case):
    size, scale = case.split("_")
    _, _, arrays = reference.load("degrade_bicubic")
    # A frame for each unit vector along the height, constant along the width.
    frames = np.repeat(np.eye(int(size))[:, :, None, None], 8, axis=2)
    columns = imresize(frames, SCALES[scale])[:, :, 0, 0]
    np.testing.assert_allclose(columns.T, arrays[f"matrix/{case}"], atol=1e-6)


def test_frames_are_resized_one_by_one():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 24, 20, 3), np.uint8)
    small = imresize(frames, 1 / 4)
    assert small.shape == (2, 3, 6, 5, 3)
    np.testing.assert_array_equal(small[1, 2], imresize(frames[1, 2], 1 / 4))


@pytest.mark.parametrize("scale", [1 / 4, 4, 1 / 3, 2.5, 0.37])
def test_constant_frames_stay_constant(scale):
    frame = np.full((13, 7, 3), 201, np.uint8)
    assert (imresize(frame, scale) == 201).all()


def test_axes_are_treated_alike():
    frame = np.random.default_rng(1).uniform(size=(32, 40, 3))
    turned = imresize(frame.transpose(1, 0, 2), 1 / 4).transpose(1, 0, 2)
    np.testing.assert_allclose(turned, imresize(frame, 1 / 4), atol=1e-12)


def test_floats_are_neither_clipped_nor_rounded_and_keep_their_dtype():
    step = np.zeros((8, 8, 1), np.float16)
    step[:, 4:] = 1
    large = imresize(step, 4)
    assert large.dtype == np.float16
    assert large.min() < -0.01 and large.max() > 1.01
    assert imresize(step.astype(np.float64), 4).dtype == np.float64


def test_a_single_pixel_and_no_frames():
    assert (imresize(np.full((1, 1, 3), 9, np.uint8), 4) == np.full((4, 4, 3), 9)).all()
    assert imresize(np.zeros((0, 8, 8, 3), np.uint8), 1 / 4).shape == (0, 2, 2, 3)


@pytest.mark.parametrize(
    ("frames", "scale", "error", "words"),
    [
        (np.zeros((8, 8, 3), np.int32), 4, TypeError, "int32"),
        (np.zeros((8, 8), np.uint8), 4, ValueError, "shape"),
        (np.zeros((0, 8, 3), np.uint8), 4, ValueError, "shape"),
        (np.zeros((8, 8, 3), np.uint8), 0, ValueError, "scale"),
        (np.zeros((8, 8, 3), np.uint8), -1, ValueError, "scale"),
        (np.zeros((8, 8, 3), np.uint8), float("nan"), ValueError, "scale"),
    ],
)
def test_refuses(frames, scale, error, words):
    with pytest.raises(error, match=words):
        imresize(frames, scale)


def test_imports_neither_tensorflow_nor_jax():
    code = (
        "import sys, jaxvsr.data.degradations; "
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'jax') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
