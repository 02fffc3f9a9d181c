"""DISTS against the authors' package, with a small network of random weights."""

import importlib

import classifiers
import numpy as np
import pytest

from jaxvsr import metrics
from jaxvsr.metrics.vgg import VGG16

CHANNELS = (4, 6, 6, 6, 6)


def test_dists_is_the_authors(monkeypatch):
    for module in ("vgg", "dists"):
        # By the module: the package has a function of the name of one.
        found = importlib.import_module(f"jaxvsr.metrics.{module}")
        monkeypatch.setattr(found, "CHANNELS", CHANNELS)
    rng = np.random.default_rng(2)
    weights = {name: rng.random((1, 31, 1, 1), dtype=np.float32) for name in ("alpha", "beta")}
    parameters = metrics.dists_parameters(classifiers.vgg(VGG16, CHANNELS), weights)
    sr, gt = classifiers.frames()
    found = metrics.dists(sr, gt, parameters)
    assert found.shape == (1,) and found.dtype == np.float64
    assert found[0] == pytest.approx(0.039155006408691406, rel=1e-5)  # DISTS_pytorch 0.1, torch 2
    assert metrics.dists(gt, gt, parameters)[0] == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="DISTS must hold alpha and beta of 31 numbers"):
        metrics.dists_parameters({}, {"alpha": weights["alpha"]})
