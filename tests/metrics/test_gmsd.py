import numpy as np
import pytest

from jaxvsr.metrics import gmsd


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 256, (17, 22, 3), np.uint8)
    return np.clip(gt + rng.normal(0, 30, gt.shape), 0, 255).astype(np.uint8), gt


def naive_gmsd(x, y):
    """By the definition, pixel by pixel, of planes on the scale of 0..255."""

    def gradient(plane):
        h, w = plane.shape
        plane = np.pad(plane, ((0, 1), (0, 1)))
        small = np.zeros(((h + 1) // 2 + 2, (w + 1) // 2 + 2))
        for i in range(0, h, 2):
            for j in range(0, w, 2):
                small[i // 2 + 1, j // 2 + 1] = plane[i : i + 2, j : j + 2].sum() / 4
        prewitt = np.array([[1, 0, -1]] * 3) / 3
        out = np.zeros((small.shape[0] - 2, small.shape[1] - 2))
        for i, j in np.ndindex(*out.shape):
            around = small[i : i + 3, j : j + 3]
            out[i, j] = np.sqrt((around * prewitt).sum() ** 2 + (around * prewitt.T).sum() ** 2)
        return out

    x, y = gradient(x), gradient(y)
    similarity = (2 * x * y + 170) / (x**2 + y**2 + 170)
    return np.sqrt(((similarity - similarity.mean()) ** 2).sum() / (similarity.size - 1))


@pytest.mark.parametrize("crop", [0, 3])
def test_it_is_its_definition(pair, crop):
    sr, gt = (frame[crop : 17 - crop, crop : 22 - crop].astype(np.float64) for frame in pair)
    weights = np.array([65.481, 128.553, 24.966]) / 255
    expected = naive_gmsd(sr @ weights + 16, gt @ weights + 16)
    assert gmsd(*pair, crop) == pytest.approx(expected, rel=1e-9)
    expected = np.mean([naive_gmsd(sr[..., c], gt[..., c]) for c in range(3)])
    assert gmsd(*pair, crop, "rgb") == pytest.approx(expected, rel=1e-9)


def test_more_noise_is_worse_and_none_is_perfect():
    rng = np.random.default_rng(1)
    gt = rng.uniform(0.2, 0.8, (40, 40, 3))
    noise = rng.normal(0, 1, gt.shape)
    scores = [float(gmsd(gt + strength * noise, gt)) for strength in (0, 0.02, 0.05, 0.1)]
    assert scores[0] == 0 and scores == sorted(set(scores))


def test_frames_need_room_for_the_gradient(pair):
    with pytest.raises(ValueError, match="1x6 are too small; GMSD expects at least 3x3"):
        gmsd(*pair, crop=8)
