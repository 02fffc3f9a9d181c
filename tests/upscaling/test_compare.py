"""Frames that show sr beside bicubic interpolation."""

import numpy as np
import pytest
import videos
from PIL import Image
from videos import LOSSLESS, larger, upscale

from jaxvsr.upscaling import compare

pytest.importorskip("av")


def test_side_and_split_show_both_frames(tmp_path):
    source = videos.write(tmp_path / "a.mkv", videos.blocks(2))
    model = videos.Repeat()
    side = upscale(source, tmp_path / "b.mkv", encoder=LOSSLESS, compare="side").frames
    split = upscale(source, tmp_path / "c.mkv", encoder=LOSSLESS, compare="split").frames
    lq = videos.blocks(2)
    plain = np.stack([compare.bicubic(frame, model.scale, np.dtype("uint8")) for frame in lq])
    assert side.shape == (2, 96, 256, 3) and split.shape == (2, 96, 128, 3)
    assert (side[:, :, 127:129] == 255).all() and (split[:, :, 63:65] == 255).all()
    np.testing.assert_array_equal(side[:, :, :127], plain[:, :, :127])
    np.testing.assert_array_equal(side[:, :, 129:], larger(lq)[:, :, 1:])
    np.testing.assert_array_equal(split[:, :, :63], plain[:, :, :63])
    np.testing.assert_array_equal(split[:, :, 65:], larger(lq)[:, :, 65:])


def test_preview(tmp_path):
    source = videos.write(tmp_path / "a.mkv", videos.blocks(20))
    upscale(source, tmp_path / "b.mkv", encoder=LOSSLESS, preview=11)
    picture = np.asarray(Image.open(tmp_path / "b.mkv.preview.png"))
    np.testing.assert_array_equal(picture[-96:, -128:], larger(videos.blocks(20))[11])
