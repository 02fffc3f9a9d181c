"""Degradations that change the size, compared with MATLAB and the official numbers."""

import subprocess
import sys

import numpy as np
import pytest
import reference

from jaxvsr.data.degradations import blur_downsample, imresize, mod_crop, resize

KINDS = ["bd", "duf", "tecogan"]
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


def test_rows_and_columns_are_treated_alike():
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


@pytest.mark.usefixtures("unchecked")
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


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_duf_equals_the_golden_case(scale):
    _, _, arrays = reference.load("degrade_bd")
    frames = arrays["in"].astype(np.float32) / np.float32(255)
    small = blur_downsample(frames, "duf", scale)
    assert small.dtype == np.float32
    assert reference.relative_error(small, arrays[f"duf/x{scale}"]) < 1e-6


@pytest.mark.parametrize("kind", ["bd", "duf"])
def test_blurs_equal_the_golden_case_as_bytes(kind):
    _, _, arrays = reference.load("degrade_bd")
    np.testing.assert_array_equal(blur_downsample(arrays["in"], kind), arrays[f"{kind}/x4_u8"])


@pytest.mark.parametrize(
    ("kind", "key", "center"),
    [("bd", "bd/kernel", 5), ("duf", "duf/kernel_x4", 6), ("duf", "duf/kernel_x2", 6)],
)
def test_impulse_responses_equal_the_golden_kernels(kind, key, center):
    _, _, arrays = reference.load("degrade_bd")
    scale = 2 if key.endswith("x2") else 4
    np.testing.assert_allclose(impulse_response(kind, scale, center), arrays[key], atol=1e-15)


def test_tecogan_has_nine_taps_of_sigma_1_5():
    taps = np.exp(-(np.arange(-4, 5) ** 2) / 4.5)
    taps /= taps.sum()
    np.testing.assert_allclose(impulse_response("tecogan", 4, 4), np.outer(taps, taps), atol=1e-15)


def impulse_response(kind, scale, center):
    """Weights of the inputs around one output, `center` taps before its pixel and as many after.

    "bd" has one more after it, as its center lies between two pixels.
    """
    taps = 2 * center + 1 + (kind == "bd")
    first = 6 * scale + (kind == "bd") - center  # of the taps of output 6
    impulses = np.zeros((taps, taps, 60, 60, 1))
    for row, column in np.ndindex(taps, taps):
        impulses[row, column, first + row, first + column] = 1
    return blur_downsample(impulses, kind, scale)[:, :, 6, 6, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_blurs_of_frames_one_by_one_and_of_floats(kind):
    frames = np.random.default_rng(2).integers(0, 256, (2, 3, 24, 20, 3), np.uint8)
    small = blur_downsample(frames, kind)
    assert small.shape == (2, 3, 6, 5, 3) and small.dtype == np.uint8
    np.testing.assert_array_equal(small[1, 2], blur_downsample(frames[1, 2], kind))
    as_float = blur_downsample(frames / 255, kind)
    assert as_float.dtype == np.float64
    assert np.abs(255 * as_float - small).max() <= 0.5 + 1e-4
    # Any range: neither clipped nor rounded.
    np.testing.assert_allclose(blur_downsample(9 * (frames / 255) - 3, kind), 9 * as_float - 3)
    assert blur_downsample(frames.astype(np.float16), kind).dtype == np.float16


@pytest.mark.parametrize("kind", KINDS)
def test_blurred_constants_stay_constant(kind):
    assert (blur_downsample(np.full((13, 7, 3), 201, np.uint8), kind) == 201).all()


def test_bd_rounds_an_edge_on_its_center_up():
    frame = np.zeros((24, 24, 1), np.uint8)
    frame[:, 10:] = 255  # output 2 is centerd between columns 9 and 10
    assert (blur_downsample(frame, "bd")[:, 2] == 128).all()


DEGRADE = {kind: lambda x, kind=kind: blur_downsample(x, kind) for kind in KINDS}
DEGRADE["bicubic"] = lambda x: imresize(x, 1 / 4)


@pytest.mark.parametrize("name", DEGRADE)
def test_a_shift_by_the_scale_shifts_the_output(name):
    frames = np.random.default_rng(3).integers(0, 256, (64, 60, 3), np.uint8)
    small, shifted = DEGRADE[name](frames), DEGRADE[name](frames[8:, 4:])
    # But where the border was not one before.
    np.testing.assert_array_equal(shifted[3:, 3:], small[5:, 4:])


@pytest.mark.parametrize(
    ("name", "width", "commutes"),
    [
        ("bicubic", 36, True),
        ("bicubic", 37, False),
        ("bd", 36, True),
        ("bd", 37, False),
        # Outputs that lie on every fourth pixel reach the last pixel of 37, but not that of 36.
        ("duf", 36, False),
        ("duf", 37, True),
        ("tecogan", 36, False),
        ("tecogan", 37, True),
    ],
)
def test_flips_commute_where_sampling_is_symmetric(name, width, commutes):
    frames = np.random.default_rng(4).uniform(size=(20, width, 3))
    flipped = DEGRADE[name](frames[:, ::-1])[:, ::-1]
    assert np.allclose(flipped, DEGRADE[name](frames), atol=1e-12) is commutes


@pytest.mark.parametrize(
    ("name", "shape"), [("bicubic", (7, 6)), ("duf", (7, 6)), ("tecogan", (7, 6)), ("bd", (6, 5))]
)
def test_sizes_that_the_scale_does_not_divide(name, shape):
    frames = np.random.default_rng(5).integers(0, 256, (26, 23, 3), np.uint8)
    assert DEGRADE[name](frames).shape == (*shape, 3)
    # A data set's targets are cut first, and are then four times their inputs.
    target = mod_crop(frames, 4)
    assert target.shape == (24, 20, 3)
    np.testing.assert_array_equal(target, frames[:24, :20])
    assert DEGRADE[name](target).shape == (6, 5, 3)


def test_bd_uses_pixels_that_cropping_would_remove():
    frames = np.random.default_rng(6).integers(0, 256, (27, 27, 3), np.uint8)
    whole, cut = blur_downsample(frames, "bd"), blur_downsample(mod_crop(frames, 4), "bd")
    np.testing.assert_array_equal(whole[:5, :5], cut[:5, :5])
    assert (whole != cut).any()


# Numbers of OpenCV 4's resize of [0, 10, 40, 90, 160].
OPENCV = [
    ("bilinear", [7.5, 107.5]),
    ("bilinear", [0, 5.7143, 18.5714, 40, 75.7143, 120, 160]),
    ("bicubic", [1.4815, 40, 140.7407]),
    ("bicubic", [-0.7872, 2.6531, 16.8222, 40, 70.4664, 124.6356, 165.5102]),
    ("area", [12, 108]),
    ("area", [0, 6, 16, 40, 80, 118, 160]),
]


@pytest.mark.parametrize(("method", "expected"), OPENCV)
def test_resize_equals_opencv(method, expected):
    row = np.array([0.0, 10, 40, 90, 160]).reshape(1, 5, 1)
    resized = resize(np.repeat(row, 3, axis=0), (4, len(expected)), method)
    assert resized.shape == (4, len(expected), 1)
    np.testing.assert_allclose(resized[..., 0], np.tile(expected, (4, 1)), atol=1e-4)


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "area"])
def test_resize_keeps_constants_and_bytes(method):
    frames = np.full((2, 9, 7, 3), 77, np.uint8)
    assert (resize(frames, (4, 15), method) == np.full((2, 4, 15, 3), 77)).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: blur_downsample(x, "bicubic"), ValueError, "'bd' .*BasicVSR.*'duf' .*'tecogan'"),
        (lambda x: blur_downsample(x, "bd", 2), ValueError, "scale"),
        (lambda x: blur_downsample(x, "duf", 5), ValueError, r"\(2, 3, 4\), got 5"),
        (lambda x: blur_downsample(x[:3], "bd"), ValueError, "smaller than the scale"),
        (lambda x: blur_downsample(x.astype(np.int64), "bd"), TypeError, "int64"),
        (lambda x: blur_downsample(x[..., 0], "bd"), ValueError, "shape"),
        (lambda x: mod_crop(x[:3], 4), ValueError, "smaller than the scale 4"),
        (lambda x: resize(x, (2, 2), "lanczos"), ValueError, "lanczos"),
        (lambda x: resize(x, (2, 0), "area"), ValueError, "size"),
        (lambda x: resize(x.astype(np.int8), (2, 2), "area"), TypeError, "int8"),
    ],
)
def test_blurs_and_resize_refuse(call, error, words):
    with pytest.raises(error, match=words):
        call(np.zeros((8, 8, 3), np.uint8))


def test_imports_nothing_heavy():
    heavy = ("tensorflow", "tensorflow_datasets", "grain", "clu", "torch", "jax", "av", "scipy")
    code = f"import sys, jaxvsr.data.degradations; print([m for m in {heavy} if m in sys.modules])"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
