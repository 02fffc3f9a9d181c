"""RealBasicVSR's chain of degradations."""

import dataclasses

import numpy as np
import pytest
from clips import psnr, waves

from jaxvsr.data.degradations import Kernels, Order, Realistic, Walk, realistic


def test_walks_stay_in_range_with_bounded_steps():
    values = np.array(Walk(1, 2, 0.05).draw(np.random.default_rng(3), 500))
    assert values.min() >= 1 and values.max() <= 2
    assert 0.04 < np.abs(np.diff(values)).max() <= 0.05
    assert len(set(Walk(0, 1).draw(np.random.default_rng(3), 5))) == 1
    assert Walk(0, 2, 0.1).draw(np.random.default_rng(3), 2, first=1.5)[0] == 1.5


@pytest.mark.parametrize("seed", range(6))
def test_realistic_clips_are_a_quarter_of_the_size_and_recognizable(seed):
    frames = waves(3, 64, 80)
    small = realistic(frames, np.random.default_rng(seed))
    assert small.shape == (3, 16, 20, 3) and small.dtype == np.uint8
    np.testing.assert_array_equal(small, realistic(frames, np.random.default_rng(seed)))
    assert (small != realistic(frames, np.random.default_rng(seed + 100))).any()
    assert abs(small.mean() - frames.mean()) < 20


def test_every_kernel_every_noise_and_both_codecs_run():
    frames = waves(2, 32, 32)
    for kind in range(7):
        kernels = Kernels(probabilities=tuple(np.eye(7)[kind]))
        order = Order(kernels=kernels, poisson=kind % 2, gray=kind // 2 % 2, mpeg4=kind // 4)
        settings = Realistic(first=order, second=order)
        small = realistic(frames, np.random.default_rng(kind), settings)
        assert small.shape == (2, 8, 8, 3) and small.std() > 1


def test_gentle_settings_degrade_little():
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
    flat = np.repeat(np.repeat(waves(3, 8, 8), 8, axis=1), 8, axis=2)
    small = realistic(flat, np.random.default_rng(0), settings)
    assert small.shape == (3, 16, 16, 3)
    assert psnr(small, flat[:, 2::4, 2::4]) > 25
    strong = dataclasses.replace(gentle, gaussian_sigma=Walk(60, 60))
    noisy = realistic(flat, np.random.default_rng(0), dataclasses.replace(settings, first=strong))
    assert psnr(noisy, flat[:, 2::4, 2::4]) < psnr(small, flat[:, 2::4, 2::4]) - 3


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: realistic(x[:, 1:], np.random.default_rng()), ValueError, "mod_crop"),
        (lambda x: realistic(x[0], np.random.default_rng()), ValueError, "clip"),
        (lambda x: Walk(2, 1), ValueError, "low <= high"),
        (lambda x: Walk(1, 2, -0.1), ValueError, "step"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call(waves(2, 16, 16))
