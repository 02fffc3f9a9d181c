"""Files in memory, and RealBasicVSR's chain of degradations."""

import dataclasses
import sys

import numpy as np
import pytest

from jaxvsr.data.degradations import (
    Compressed,
    Kernels,
    Order,
    Realistic,
    Walk,
    compressed,
    h264,
    imresize,
    jpeg,
    mpeg4,
    realistic,
)
from jaxvsr.errors import InputError


def clip(frames=4, height=48, width=64):
    """Moving waves with some texture, nearly grey (t, h, w, 3) uint8."""
    t, y, x = np.mgrid[:frames, :height, :width]
    wave = np.sin(0.2 * (x + y) + t) + np.sin(0.3 * x - t) * np.cos(0.1 * y * t)
    grey = 50 * wave + np.random.default_rng(0).normal(0, 6, wave.shape)
    return np.clip(128 + grey[..., None] * [1, 0.9, 0.8], 0, 255).astype(np.uint8)


def psnr(x, y):
    return 10 * np.log10(255**2 / np.mean((x.astype(float) - y) ** 2))


def test_jpeg_is_worse_at_lower_quality_and_takes_one_of_each_frame():
    frames = clip(2, 37, 51)
    decoded = jpeg(frames, np.array([10, 95]))
    assert decoded.shape == frames.shape and decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded[1], jpeg(frames[1], 95))
    assert psnr(decoded[0], frames[0]) < 31 < 37 < psnr(decoded[1], frames[1])


@pytest.mark.parametrize(("height", "width"), [(48, 64), (37, 51), (1, 1), (2, 17)])
@pytest.mark.parametrize(
    "codec",
    [
        lambda x: h264(x, crf=20),
        lambda x: h264(x, bitrate=2e4, fps=1),
        lambda x: mpeg4(x, 2e4, fps=1),
    ],
)
def test_video_keeps_frames_order_and_size(codec, height, width):
    frames = clip(5, height, width)
    decoded = codec(frames)
    assert decoded.shape == frames.shape and decoded.dtype == np.uint8
    if height > 2:
        errors = [[psnr(a, b) for b in frames] for a in decoded]
        assert np.argmax(errors, axis=1).tolist() == [0, 1, 2, 3, 4]


def test_video_obeys_its_rate():
    frames = clip()
    by_crf = [psnr(h264(frames, crf=crf), frames) for crf in (10, 25, 40)]
    assert by_crf[0] > by_crf[1] + 3 > by_crf[2] + 6
    longer = clip(12)
    for codec in (h264, mpeg4):
        low, high = (psnr(codec(longer, bitrate=rate, fps=1), longer) for rate in (1e3, 1e4))
        assert high > low + 4
    # The same bits per frame.
    np.testing.assert_array_equal(
        h264(frames, bitrate=2e4, fps=1), h264(frames, bitrate=4.8e5, fps=24)
    )


def test_video_comes_out_the_same_whatever_was_in_the_memory():
    noisy = np.random.default_rng(1).integers(0, 256, (10, 64, 64, 3), np.uint8)
    frames = (clip(10, 64, 64) // 2) + noisy // 8
    rng = np.random.default_rng(2)
    results, kept = set(), []
    for fill in range(30):
        kept.append(np.full(rng.integers(1, 200_000), fill, np.uint8))
        if len(kept) > 10:
            del kept[rng.integers(10)]
        results.add(h264(frames, crf=25).tobytes())
    assert len(results) == 1


def test_without_pyav_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"jaxvsr\[video\]"):
        h264(clip(), crf=20)
    with pytest.raises(InputError, match=r"jaxvsr\[video\]"):
        realistic(clip(), np.random.default_rng(0))


def test_walks_stay_in_range_and_move_by_their_step():
    values = np.array(Walk(1, 2, 0.05).draw(np.random.default_rng(3), 500))
    assert values.min() >= 1 and values.max() <= 2
    assert 0.04 < np.abs(np.diff(values)).max() <= 0.05
    assert len(set(Walk(0, 1).draw(np.random.default_rng(3), 5))) == 1
    assert Walk(0, 2, 0.1).draw(np.random.default_rng(3), 2, first=1.5)[0] == 1.5


@pytest.mark.parametrize("seed", range(6))
def test_realistic_clips_are_a_quarter_of_the_size_and_recognisable(seed):
    frames = clip(3, 64, 80)
    small = realistic(frames, np.random.default_rng(seed))
    assert small.shape == (3, 16, 20, 3) and small.dtype == np.uint8
    np.testing.assert_array_equal(small, realistic(frames, np.random.default_rng(seed)))
    assert (small != realistic(frames, np.random.default_rng(seed + 100))).any()
    assert abs(small.mean() - frames.mean()) < 20


def test_every_kernel_every_noise_and_both_codecs_run():
    frames = clip(2, 32, 32)
    for kind in range(7):
        kernels = Kernels(probabilities=tuple(np.eye(7)[kind]))
        order = Order(kernels=kernels, poisson=kind % 2, gray=kind // 2 % 2, mpeg4=kind // 4)
        settings = Realistic(first=order, second=order)
        small = realistic(frames, np.random.default_rng(kind), settings)
        assert small.shape == (2, 8, 8, 3) and small.std() > 1


def test_settings_that_degrade_little_leave_little_to_see():
    gentle = Order(
        blur=0,
        up=0,
        down=0,
        scale=Walk(1, 1),
        poisson=0,
        gaussian_sigma=Walk(0, 0),
        quality=Walk(100, 100),
        bits=(1e7, 1e7),
    )
    settings = Realistic(first=gentle, second=gentle, sinc=0)
    flat = np.repeat(np.repeat(clip(3, 8, 8), 8, axis=1), 8, axis=2)
    small = realistic(flat, np.random.default_rng(0), settings)
    assert small.shape == (3, 16, 16, 3)
    assert psnr(small, flat[:, 2::4, 2::4]) > 25
    strong = dataclasses.replace(gentle, gaussian_sigma=Walk(60, 60))
    noisy = realistic(flat, np.random.default_rng(0), dataclasses.replace(settings, first=strong))
    assert psnr(noisy, flat[:, 2::4, 2::4]) < psnr(small, flat[:, 2::4, 2::4]) - 3


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: h264(x), ValueError, "set either crf or bitrate"),
        (lambda x: h264(x, crf=20, bitrate=1e4), ValueError, "set either crf or bitrate"),
        (lambda x: h264(x, crf=52), ValueError, "crf must be in 0..51"),
        (lambda x: h264(x, bitrate=0), ValueError, "bitrate"),
        (lambda x: h264(x[0], crf=20), ValueError, "clip"),
        (lambda x: h264(x[:0], crf=20), ValueError, "clip"),
        (lambda x: h264(x / 255, crf=20), TypeError, "uint8"),
        (lambda x: jpeg(x[..., :1], 50), ValueError, "h, w, 3"),
        (lambda x: jpeg(x, 101), ValueError, "quality"),
        (lambda x: jpeg(x, np.array([50, 50, 50])), ValueError, "or one per frame"),
        (lambda x: jpeg(x / 255, 50), TypeError, "uint8"),
        (lambda x: realistic(x[:, 1:], np.random.default_rng()), ValueError, "mod_crop"),
        (lambda x: realistic(x[0], np.random.default_rng()), ValueError, "clip"),
        (lambda x: Walk(2, 1), ValueError, "low <= high"),
        (lambda x: Walk(1, 2, -0.1), ValueError, "step"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call(clip(2, 16, 16))


def test_compressed_clips_obey_their_settings():
    frames = clip(5, 64, 96)
    rng = np.random.default_rng
    plain = Compressed(crf=(28, 28), presets=("fast",), blur=0, resize=0, noise=0)
    small = imresize(frames, 1 / 4)
    np.testing.assert_array_equal(
        compressed(frames, rng(0), plain), h264(small, crf=28, preset="fast")
    )
    halved = compressed(frames, rng(0), dataclasses.replace(plain, scale=2))
    assert halved.shape == (5, 32, 48, 3)
    finest = dataclasses.replace(plain, crf=(1, 1))
    least = psnr(compressed(frames, rng(0), finest), small)
    for worse in (
        {"blur": 1.0, "sigma": (0.8, 0.8)},
        {"resize": 1.0, "size": (0.5, 0.5)},
        {"noise": 1.0, "noise_sigma": (8, 8)},
    ):
        changed = compressed(frames, rng(0), dataclasses.replace(finest, **worse))
        assert psnr(changed, small) < least - 3, worse


def test_compressed_clips_are_those_of_their_generator():
    frames = clip(3, 32, 32)
    results = [compressed(frames, np.random.default_rng(seed)).tobytes() for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]
