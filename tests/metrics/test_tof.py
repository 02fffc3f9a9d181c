import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from jaxvsr.metrics import tof


@pytest.fixture(scope="module")
def texture():
    plane = gaussian_filter(np.random.default_rng(0).normal(size=(96, 96)), 2, mode="wrap")
    plane = (plane - plane.min()) / np.ptp(plane)
    return np.repeat(plane[..., None], 3, -1)


def moving(texture, dx, dy=0, frames=3):
    return np.stack([np.roll(texture, (t * dy, t * dx), (0, 1)) for t in range(frames)])


def test_it_is_the_distance_between_motions_in_pixels(texture):
    for dx, dy, distance in ((1, 0, 1), (0, -2, 2), (2, 1, 5**0.5)):
        score = tof(moving(texture, dx, dy), moving(texture, 0))
        assert score.shape == (2,) and score.dtype == np.float64
        np.testing.assert_allclose(score, distance, rtol=0.2)


def test_the_same_motion_is_perfect(texture):
    clip = moving(texture, 1)
    np.testing.assert_array_equal(tof(clip, clip), 0)
    np.testing.assert_array_equal(tof(clip, np.round(clip * 255).astype(np.uint8)), 0)


def test_what_cannot_be_scored_is_refused(texture, unchecked):
    clip = moving(texture, 1)
    with pytest.raises(ValueError, match="differ in size"):
        tof(clip[1:], clip)
    with pytest.raises(
        ValueError, match=r"shape \(1, 96, 96, 3\); tOF expects .* at least two frames"
    ):
        tof(clip[:1], clip[:1])
    with pytest.raises(ValueError, match=r"expects \(t, h, w, 3\)"):
        tof(clip[None], clip[None])


def test_without_opencv_it_says_what_to_install(texture, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxvsr\[metrics\]'"):
        tof(moving(texture, 1), moving(texture, 1))
