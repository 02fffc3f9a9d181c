"""The warping error against clips whose flicker is known."""

import numpy as np
import pytest
from scipy import ndimage

from jaxvsr import metrics


@pytest.fixture(scope="module")
def moving():
    """Four frames of a smooth texture that moves by (1, 2) pixels per frame."""
    texture = np.random.default_rng(0).random((64, 80, 3))
    texture = ndimage.gaussian_filter(texture, (3, 3, 0), mode="wrap")
    texture = (texture - texture.min()) / np.ptp(texture) * 200
    return np.stack([np.roll(texture, (i, 2 * i), (0, 1)) for i in range(4)]).astype(np.uint8)


def test_it_measures_flicker_and_not_motion(moving):
    still = metrics.warping_error(moving, moving)
    assert still.shape == (3,) and (still < 2).all()
    flicker = moving + np.array([0, 20, 0, 20], np.uint8)[:, None, None, None]
    np.testing.assert_allclose(metrics.warping_error(flicker, moving), 20, atol=1.5)
    plain = np.abs(np.diff(moving.astype(float), axis=0)).mean((1, 2, 3))
    assert (still < plain / 4).all()


def test_clips_of_one_frame_are_refused(moving):
    with pytest.raises(ValueError, match="warping error expects .t, h, w, 3. with at least two"):
        metrics.warping_error(moving[:1], moving[:1])
