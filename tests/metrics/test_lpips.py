"""LPIPS against the authors' package, with random weights of the network."""

import classifiers
import numpy as np
import pytest

from jaxvsr import metrics


@pytest.fixture(scope="module")
def parameters():
    rng = np.random.default_rng(2)
    heads = {
        f"lin{i}.model.1.weight": rng.random((1, channels, 1, 1), dtype=np.float32)
        for i, channels in enumerate((64, 192, 384, 256, 256))
    }
    return metrics.lpips_parameters(classifiers.convolutions(classifiers.ALEXNET), heads)


def test_lpips_is_the_authors(parameters):
    sr, gt = classifiers.frames()
    found = metrics.lpips(sr, gt, parameters)
    assert found.shape == (1,) and found.dtype == np.float64
    assert found[0] == pytest.approx(0.08365392684936523, rel=1e-5)  # lpips 0.1.4, torch 2
    assert metrics.lpips(gt, gt, parameters)[0] == pytest.approx(0, abs=1e-12)


def test_frames_and_weights_that_do_not_fit_are_refused(parameters):
    small = np.zeros((1, 31, 40, 3), np.uint8)
    with pytest.raises(ValueError, match="31x40 are too small; LPIPS expects at least 32x32"):
        metrics.lpips(small, small, parameters)
    alexnet = classifiers.convolutions(classifiers.ALEXNET)
    with pytest.raises(ValueError, match=r"LPIPS must hold lin0.model.1.weight"):
        metrics.lpips_parameters(alexnet, {})
    del alexnet["features.8.bias"]
    with pytest.raises(ValueError, match=r"AlexNet: features.8.weight must have the shape"):
        metrics.lpips_parameters(alexnet, {})
    with pytest.raises(ValueError, match=r"VGG16: features.0.weight"):
        metrics.lpips_parameters({}, {})
