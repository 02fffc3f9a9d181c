"""VMAF of clips whose quality is known, and what is refused."""

import importlib

import numpy as np
import pytest
from scipy import ndimage

from jaxvsr import metrics

pytest.importorskip("imageio_ffmpeg")
module = importlib.import_module("jaxvsr.metrics.vmaf")  # the package has its function instead


@pytest.fixture(scope="module")
def clip():
    """Three frames of a smooth texture that moves by (1, 2) pixels per frame; an odd width."""
    texture = ndimage.gaussian_filter(np.random.default_rng(0).random((64, 99, 3)), (2, 2, 0))
    texture = (texture - texture.min()) / np.ptp(texture) * 255
    return np.stack([texture[i : i + 60, 2 * i : 2 * i + 81] for i in range(3)]).astype(np.uint8)


def test_quality_falls_with_blur(clip):
    """Equal frames score 100, but for the first, which has no motion before it."""
    same = metrics.vmaf(clip, clip)
    np.testing.assert_allclose(same[1:], 100)
    blurred = [ndimage.gaussian_filter(clip, (0, s, s, 0)) for s in (0.7, 1.5)]
    scores = [metrics.vmaf(x, clip) for x in blurred]
    assert scores[0].shape == (3,) and (scores[1] > 0).all()
    assert (scores[1] + 10 < scores[0]).all() and (scores[0] < same).all()


def test_floats_are_rounded_and_borders_cropped(clip):
    noisy = clip ^ np.random.default_rng(1).integers(0, 32, clip.shape, np.uint8)
    scores = metrics.vmaf(noisy, clip, crop=4)
    inner = noisy[:, 4:-4, 4:-4], clip[:, 4:-4, 4:-4]
    np.testing.assert_array_equal(scores, metrics.vmaf(*(x / 255 for x in inner)))
    assert (scores != metrics.vmaf(noisy, clip)).all()


def test_small_frames_and_other_axes_are_refused(clip):
    with pytest.raises(ValueError, match="31x81 are too small; VMAF expects at least 32x32"):
        metrics.vmaf(clip[:, :31], clip[:, :31])
    with pytest.raises(ValueError, match="VMAF expects .t, h, w, 3."):
        metrics.vmaf(clip[0], clip[0])


def test_a_program_that_fails_is_quoted(clip, monkeypatch, tmp_path):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho no such model >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(module, "ffmpeg_with_vmaf", lambda: str(program))
    with pytest.raises(ValueError, match="FFmpeg cannot compare the frames: no such model"):
        metrics.vmaf(clip, clip)


def test_without_the_filter_the_extra_is_named(clip, monkeypatch):
    monkeypatch.setattr(module, "ffmpeg_with_vmaf", lambda: None)
    with pytest.raises(ImportError, match=r"VMAF needs an FFmpeg with libvmaf: pip install"):
        metrics.vmaf(clip, clip)
