"""The metrics against numbers read off the official implementations."""

import numpy as np
import pytest
from reference import GOLDEN, load

from jaxvsr import metrics
from jaxvsr.metrics.color import prepare

BAR = 1e-6
NIQE_BAR = 1e-3  # absolute, by float32's noise: a shape may move by a step of its grid
NIQE_FRAMES = {"blur": "pair/blur/dist", "blur_ref": "pair/blur/ref"}
# Numbers of metrics_frame that are not asked of jaxvsr, and why.
SKIPPED = {
    "pair": "the images",
    "psnr_pt": "with 1e-8 inside the logarithm",
    "ssim_pt": "from float32 frames",
    "tf_psnr": "in float32",
    "tf_ssim": "in float32",
    "tf_ssim01": "in float32",
    "gmsd_pop": "with the population's deviation",
    "gmsd_piq": "on another luma, with the population's deviation",
    "gmsd_fullluma": "on another luma",
    "niqe_features": "not given out",
    "brisque_features": "piq's, with zeros outside the frame and MATLAB's resizing",
    "brisque_scaled": "piq's",
    "brisque_opencv": "in test_brisque.py",
    "brisque_opencv_features": "in test_brisque.py",
}


def asked(key):
    """Whether jaxvsr is to give this number of metrics_frame."""
    metric, name, *rest = key.split("/")
    unrounded = name == "floats"  # values between the 8-bit ones, which the protocol rounds
    other_grey = metric == "niqe" and rest[0] == "gray"
    return metric not in SKIPPED and not unrounded and not other_grey


@pytest.mark.parametrize("key", sorted(filter(asked, load("metrics_frame")[2])))
def test_frames_score_as_officially(key):
    arrays = load("metrics_frame")[2]
    metric, name, *rest = key.split("/")
    crop = int(rest[1].removeprefix("crop")) if rest else 0
    if metric == "niqe":
        parameters = metrics.read_niqe_parameters(GOLDEN / "niqe_parameters.npz")
        score = metrics.niqe(arrays[NIQE_FRAMES[name]], parameters, crop)
        assert score == pytest.approx(arrays[key], abs=NIQE_BAR)
        return
    # GMSD is scored on luma, which one channel is already.
    channel = rest[0] if rest else "rgb" if name == "gray" else "y"
    pair = arrays[f"pair/{name}/dist"], arrays[f"pair/{name}/ref"]
    score = getattr(metrics, metric)(*pair, crop, channel)
    assert score == pytest.approx(arrays[key], rel=BAR)


def test_the_asked_numbers_are_there():
    count = {"psnr": 21, "ssim": 21, "gmsd": 4, "niqe": 6}
    keys = list(filter(asked, load("metrics_frame")[2]))
    assert {m: sum(key.startswith(f"{m}/") for key in keys) for m in count} == count
    assert len(keys) == sum(count.values())


def test_tof_scores_as_officially():
    _, _, arrays = load("metrics_temporal")
    score = metrics.tof(arrays["pred"], arrays["gt"])
    np.testing.assert_allclose(score, arrays["tof/frames"], rtol=BAR)
    assert score.mean() == pytest.approx(arrays["tof/mean"], rel=BAR)


def test_luma_is_the_official_one():
    # The others of this case are conversions that no metric is computed on.
    _, _, arrays = load("color_ycbcr")
    luma = prepare(arrays["u8"], 0, "y")
    np.testing.assert_allclose(luma, arrays["to_y_channel/u8"], rtol=BAR)
    np.testing.assert_array_equal(np.round(luma[..., 0]), arrays["y/u8"])
