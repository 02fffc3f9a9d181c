import numpy as np
import pytest

from jaxvsr.metrics import psnr, ssim


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 256, (2, 24, 30, 3), np.uint8)
    noise = rng.integers(-20, 21, gt.shape)
    return np.clip(gt.astype(int) + noise, 0, 255).astype(np.uint8), gt


def luma(frames):
    r, g, b = np.moveaxis(frames.astype(np.float64) / 255, -1, 0)
    return (65.481 * r + 128.553 * g + 24.966 * b + 16)[..., None]


def naive_ssim(x, y):
    """By the definition, window by window."""
    taps = np.exp(-((np.arange(11) - 5) ** 2) / 4.5)
    window = np.outer(taps, taps) / taps.sum() ** 2
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            top = (2 * ma * mb + 6.5025) * (2 * cov + 58.5225)
            values.append(top / ((ma**2 + mb**2 + 6.5025) * (va + vb + 58.5225)))
    return np.mean(values)


@pytest.mark.parametrize("crop", [0, 3])
def test_psnr_is_its_definition(pair, crop):
    sr, gt = pair
    cut = (slice(None), slice(crop, 24 - crop), slice(crop, 30 - crop))
    for channel, convert in (("rgb", np.float64), ("y", luma)):
        error = convert(sr)[cut] - convert(gt)[cut]
        expected = 20 * np.log10(255) - 10 * np.log10((error**2).mean((1, 2, 3)))
        np.testing.assert_allclose(psnr(sr, gt, crop, channel), expected, rtol=1e-9)


@pytest.mark.parametrize("crop", [0, 3])
def test_ssim_is_its_definition(pair, crop):
    sr, gt = pair
    cut = (slice(crop, 24 - crop), slice(crop, 30 - crop))
    x, y = sr[0][cut].astype(float), gt[0][cut].astype(float)
    expected = np.mean([naive_ssim(x[..., c], y[..., c]) for c in range(3)])
    assert ssim(sr, gt, crop)[0] == pytest.approx(expected, rel=1e-9)
    expected = naive_ssim(luma(sr[0])[cut][..., 0], luma(gt[0])[cut][..., 0])
    assert ssim(sr, gt, crop, "y")[0] == pytest.approx(expected, rel=1e-9)


def test_equal_frames_are_perfect(pair):
    _, gt = pair
    assert np.isinf(psnr(gt, gt)).all()
    np.testing.assert_allclose(ssim(gt, gt), 1)


def test_ssim_needs_room_for_its_window(pair):
    sr, gt = pair
    with pytest.raises(ValueError, match="10x16 are too small; SSIM expects at least 11x11"):
        ssim(sr, gt, crop=7)


@pytest.mark.parametrize(("h", "w"), [(11, 11), (58, 18), (59, 19), (60, 12), (107, 27)])
def test_ssim_is_its_definition_at_the_edges_of_its_blocks(h, w):
    x, y = np.random.default_rng(h).integers(0, 256, (2, h, w, 3), np.uint8)
    expected = np.mean([naive_ssim(x[..., c], y[..., c]) for c in range(3)])
    assert ssim(x, y) == pytest.approx(expected, rel=1e-9)


def test_float32_is_scaled_in_float32():
    """Where the product lies so near a half that only float64 tells them apart."""
    levels = ((np.arange(255) + 0.5) / 255).astype(np.float32)
    frames = np.repeat(levels.reshape(1, -1, 1), 3, -1)
    official = np.round(frames * np.float32(255)).astype(np.uint8)
    assert (official != np.round(frames.astype(np.float64) * 255)).any()
    assert np.isinf(psnr(frames, official))


@pytest.mark.parametrize("channel", ["rgb", "y"])
def test_floats_may_be_scored_without_rounding(pair, channel):
    sr, gt = pair
    exact = sr / np.float32(255) + np.random.default_rng(1).uniform(-2e-3, 2e-3, sr.shape)
    clipped = exact.clip(0, 1) * 255
    x, y = (luma(clipped), luma(gt)) if channel == "y" else (clipped, gt.astype(np.float64))
    expected = 10 * np.log10(255**2 / np.mean((x - y) ** 2, (1, 2, 3)))
    found = psnr(exact, gt, channel=channel, quantize=False)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert abs(found - psnr(exact, gt, channel=channel)).min() > 1e-5
    similarity = [
        np.mean([naive_ssim(a[..., i], b[..., i]) for i in range(a.shape[-1])])
        for a, b in zip(x, y, strict=True)
    ]
    found = ssim(exact, gt, channel=channel, quantize=False)
    np.testing.assert_allclose(found, similarity, rtol=1e-6)
    for score in (psnr, ssim):  # 8 bits stay as they are
        np.testing.assert_array_equal(score(sr, gt, quantize=False), score(sr, gt))
