"""JPEG and video compression in memory."""

import sys

import numpy as np
import pytest
from clips import psnr, waves

from jaxvsr.data.degradations import h264, jpeg, mpeg4, realistic
from jaxvsr.errors import InputError


def test_jpeg_is_worse_at_lower_quality_per_frame():
    frames = waves(2, 37, 51)
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
    frames = waves(5, height, width)
    decoded = codec(frames)
    assert decoded.shape == frames.shape and decoded.dtype == np.uint8
    if height > 2:
        errors = [[psnr(a, b) for b in frames] for a in decoded]
        assert np.argmax(errors, axis=1).tolist() == [0, 1, 2, 3, 4]


def test_rate_control_is_obeyed():
    frames = waves()
    by_crf = [psnr(h264(frames, crf=crf), frames) for crf in (10, 25, 40)]
    assert by_crf[0] > by_crf[1] + 3 > by_crf[2] + 6
    longer = waves(12)
    for codec in (h264, mpeg4):
        low, high = (psnr(codec(longer, bitrate=rate, fps=1), longer) for rate in (1e3, 1e4))
        assert high > low + 4
    # The same bits per frame.
    np.testing.assert_array_equal(
        h264(frames, bitrate=2e4, fps=1), h264(frames, bitrate=4.8e5, fps=24)
    )


def test_video_does_not_depend_on_uninitialized_memory():
    noisy = np.random.default_rng(1).integers(0, 256, (10, 64, 64, 3), np.uint8)
    frames = (waves(10, 64, 64) // 2) + noisy // 8
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
        h264(waves(), crf=20)
    with pytest.raises(InputError, match=r"jaxvsr\[video\]"):
        realistic(waves(), np.random.default_rng(0))


@pytest.mark.usefixtures("unchecked")
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
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call(waves(2, 16, 16))
