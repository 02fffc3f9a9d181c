"""What all metrics that score frame by frame have in common."""

import ast
import importlib
import os
import pathlib
import subprocess
import sys
import tracemalloc

import jax
import numpy as np
import pytest
from reference import GOLDEN

from jaxvsr import metrics

PARAMETERS = metrics.read_niqe_parameters(GOLDEN / "niqe_parameters.npz")


def niqe(sr, gt, *args):
    return metrics.niqe(sr, PARAMETERS, *args)


METRICS = [metrics.psnr, metrics.ssim, metrics.gmsd, niqe]


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 256, (2, 3, 100, 200, 3), np.uint8)
    return gt // 2 + rng.integers(0, 128, gt.shape, np.uint8), gt


@pytest.mark.parametrize("metric", METRICS)
def test_leading_axes_are_kept_in_order(clips, metric):
    sr, gt = clips
    scores = metric(sr, gt, 1)
    assert scores.shape == (2, 3) and scores.dtype == np.float64
    for i in np.ndindex(2, 3):
        assert metric(sr[i], gt[i], 1) == scores[i]
    assert len(np.unique(scores)) == 6


@pytest.mark.parametrize("metric", METRICS)
def test_float_frames_are_rounded_to_eight_bits(clips, metric):
    sr, gt = clips[0][0], clips[1][0]
    off = np.random.default_rng(1).uniform(-0.49, 0.49, sr.shape)
    between = ((sr + off) / 255).astype(np.float32)
    np.testing.assert_array_equal(metric(between, gt), metric(sr, gt))
    beyond = np.where(sr == sr.max(), 1.7, sr / 255)
    brightest = np.where(sr == sr.max(), 255, sr).astype(np.uint8)
    np.testing.assert_array_equal(metric(beyond, gt), metric(brightest, gt))


@pytest.mark.parametrize("metric", METRICS)
def test_long_clips_take_the_memory_of_a_few_frames(clips, metric, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    frames = np.broadcast_to(clips[1][0, 0], (60, 100, 200, 3))
    tracemalloc.start()
    metric(frames, frames)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < frames.size * 8 / 2  # half of the clip in float64


@pytest.mark.parametrize("metric", METRICS)
def test_what_cannot_be_scored_is_refused(clips, metric, unchecked):
    sr, gt = clips
    with pytest.raises(ValueError, match="crop=50 leaves nothing of frames of 100x200"):
        metric(sr, gt, 50)
    with pytest.raises(ValueError, match="crop=-1 must not be negative"):
        metric(sr, gt, -1)
    with pytest.raises(TypeError, match="uint8, or float in .* got int64"):
        metric(sr.astype(np.int64), gt.astype(np.int64))
    with pytest.raises(ValueError, match=r"shape \(100, 200\); expected"):
        metric(sr[0, 0, ..., 0], gt[0, 0, ..., 0])


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.gmsd])
def test_pairs_that_do_not_match_are_refused(clips, metric, unchecked):
    sr, gt = clips
    with pytest.raises(ValueError, match="differ in size"):
        metric(sr[:, 1:], gt)
    with pytest.raises(ValueError, match="'luma'"):
        metric(sr, gt, channel="luma")


def test_metrics_import_what_they_need_alone():
    heavy = {"cv2", "tensorflow", "tensorflow_datasets", "grain", "clu", "torch", "jaxvsr.models"}
    code = f"import sys, jaxvsr.metrics; print(*{heavy} & set(sys.modules), 'and no other')"
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert said == "and no other\n"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("metric", [*METRICS, metrics.tof])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[0, 0, ..., 0][0], r"shape \(200,\); expected \(..., h, w, 3\)"),
        (lambda x: np.moveaxis(x, -1, -3), r"\(2, 3, 3, 100, 200\).* move the channels"),
        (lambda x: x[..., [0, 1, 2, 0]], r"100, 200, 4\); expected"),
        (lambda x: x[:, :0], r"shape \(2, 0, 100, 200, 3\); expected"),
        (lambda x: x.astype(np.float32), "floats from 0 to 255; expected uint8, or floats in"),
        (lambda x: x / 127.5 - 1, "floats from -1 to 1; expected"),
        (lambda x: np.where(x == x[0, 0, 0, 0], np.nan, x / 255), "hold NaN or infinity"),
        (lambda x: np.where(x == x[0, 0, 0, 0], np.inf, x / 255), "hold NaN or infinity"),
    ],
)
def test_frames_of_another_kind_are_refused(clips, metric, change, message):
    clip = np.where(clips[1] == clips[1].max(), 255, clips[1]).astype(np.uint8)
    with pytest.raises(ValueError, match=message):
        metric(change(clip), change(clip))


def test_metrics_other_than_networks_never_run_on_a_device():
    """NumPy computes them in float64, so that no default of a GPU or TPU rounds a score."""
    for path in pathlib.Path(metrics.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])]
            names.append(getattr(node, "module", None) or "")
            on_device = any(name.split(".")[0] == "jax" for name in names)
            assert not on_device or path.stem in ("dists", "lpips", "vgg"), path


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("dists", metrics.DistsParameters({}, np.zeros(0), np.zeros(0))),
        ("lpips", metrics.LpipsParameters({}, ())),
    ],
)
def test_networks_compute_exact_products(name, parameters, monkeypatch):
    """On GPUs and TPUs, too, whose default is to round the factors."""
    module, found = importlib.import_module(f"jaxvsr.metrics.{name}"), []

    def record(*_):
        found.append(jax.config.jax_default_matmul_precision)
        return 0.0

    monkeypatch.setattr(module, "_distance", record)
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    getattr(metrics, name)(frames, frames, parameters)
    assert found == ["highest"]
