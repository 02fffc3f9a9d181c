"""Clips that were compressed once."""

import dataclasses

import numpy as np
from clips import psnr, waves

from jaxvsr.data.degradations import Compressed, compressed, h264, imresize


def test_compressed_clips_obey_their_settings():
    frames = waves(5, 64, 96)
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


def test_compressed_clips_depend_only_on_the_generator():
    frames = waves(3, 32, 32)
    results = [compressed(frames, np.random.default_rng(seed)).tobytes() for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]
