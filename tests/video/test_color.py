"""Color spaces, and conversion between pixel formats."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxvsr.video.color import FULL, LIMITED, Color, Converter, color_of, is_deep, to_frame

av = pytest.importorskip("av")


@pytest.mark.parametrize(("height", "matrix"), [(576, 6), (720, 1)])
def test_untagged_frames_are_bt601_below_720_lines_and_else_bt709(height, matrix):
    context = SimpleNamespace(color_primaries=2, color_trc=2)
    frame = av.VideoFrame(64, height, "yuv420p")
    assert color_of(frame, context) == Color(matrix, LIMITED)
    frame = av.VideoFrame(64, height, "yuvj420p")
    assert color_of(frame, context) == Color(matrix, FULL)
    assert color_of(av.VideoFrame(64, height, "rgb24"), context) == Color(1, LIMITED)


def test_is_deep():
    assert [is_deep(name) for name in ("yuv420p", "gray", "yuv420p10le", "rgb48le")] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(("matrix", "luma_of_red"), [(1, 0.2126), (6, 0.299)])
@pytest.mark.parametrize("range_", [LIMITED, FULL])
def test_the_matrix_and_the_range_are_applied(matrix, luma_of_red, range_):
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    color = Color(matrix, range_)
    converted = Converter((16, 16), "rgb24", "yuv444p", color)(to_frame(red))
    span, black = (219, 16) if range_ == LIMITED else (255, 0)
    found = converted.to_ndarray()[0]
    np.testing.assert_allclose(found, black + span * luma_of_red, atol=1)
    back = Converter((16, 16), "yuv444p", "rgb24", color)(converted).to_ndarray()
    np.testing.assert_allclose(back.astype(int), red, atol=2)


def test_frames_are_resized():
    grey = np.full((16, 24, 3), 77, np.uint8)
    small = Converter((16, 24), "rgb24", "rgb24", Color(), (8, 12))(to_frame(grey)).to_ndarray()
    np.testing.assert_array_equal(small, grey[:8, :12])
