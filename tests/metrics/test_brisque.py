"""BRISQUE against OpenCV's, and its parameters."""

import numpy as np
import pytest
from reference import GOLDEN, load

from jaxvsr import metrics
from jaxvsr.metrics.brisque import brisque_features

PUBLISHED = GOLDEN / "brisque_parameters.npz"
# cv2.quality.QualityBRISQUE_compute of opencv-contrib 5.0.0, with these parameters.
SCORES = {"blur/ref": 35.575721740722656, "blur/dist": 54.50012969970703}


@pytest.mark.parametrize("name", SCORES)
def test_features_and_score_are_opencv_s(name):
    arrays = load("metrics_frame")[2]
    frame = arrays[f"pair/{name}"]
    expected = arrays[f"brisque_opencv_features/{name}"]
    np.testing.assert_allclose(brisque_features(frame), expected, atol=2e-6)
    # OpenCV's regression is in float32, with weights of up to a thousand.
    score = metrics.brisque(frame, metrics.read_brisque_parameters(PUBLISHED))
    assert score == pytest.approx(SCORES[name], abs=2e-3)


def test_a_clip_is_scored_frame_by_frame_without_its_border():
    frame = load("metrics_frame")[2]["pair/blur/ref"]
    parameters = metrics.read_brisque_parameters(PUBLISHED)
    clip = np.stack([frame, frame[:, ::-1]])
    scores = metrics.brisque(clip, parameters, crop=8)
    assert scores.shape == (2,)
    assert scores[0] == metrics.brisque(frame[8:-8, 8:-8], parameters)


def test_a_frame_without_texture_has_no_score():
    flat = np.full((32, 32, 3), 7, np.uint8)
    assert np.isnan(metrics.brisque(flat, metrics.read_brisque_parameters(PUBLISHED)))


def test_wrong_parameters_are_explained(tmp_path):
    stored = dict(np.load(PUBLISHED))
    np.savez(tmp_path / "a.npz", **{k: v for k, v in stored.items() if k != "rho"})
    with pytest.raises(ValueError, match="a.npz lacks .'rho'."):
        metrics.read_brisque_parameters(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **{**stored, "feature_min": np.zeros(35)})
    with pytest.raises(ValueError, match="b.npz: BRISQUE's feature_min has shape .35,."):
        metrics.read_brisque_parameters(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", **{**stored, "alpha": np.full(774, np.nan)})
    with pytest.raises(ValueError, match="c.npz: BRISQUE's alpha has values that are not finite"):
        metrics.read_brisque_parameters(tmp_path / "c.npz")
