"""Encoded tiles are decoded exactly."""

import numpy as np
import pytest

from jaxvsr.data import tile_codec


def test_tiles_cover_the_frames_once_row_by_row():
    frames = np.arange(2 * 5 * 7 * 1).reshape(2, 5, 7, 1)
    parts = list(tile_codec.split_into_tiles(frames, 3))
    assert len(parts) == tile_codec.count_tiles(5, 3) * tile_codec.count_tiles(7, 3) == 6
    np.testing.assert_array_equal(parts[1], frames[:, :3, 3:6])
    rows = [np.concatenate(parts[i : i + 3], axis=2) for i in (0, 3)]
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), frames)


def test_encoding_is_the_difference_to_the_row_above_and_to_green():
    tile = np.array([[[[9, 5, 0]], [[20, 7, 6]]]], np.uint8)  # two rows of one pixel
    np.testing.assert_array_equal(tile_codec.encode(tile)[:, 0, :, 0], [[4, 9], [5, 2], [251, 4]])
    assert tile[0, 0, 0, 0] == 9  # what was given is left alone


@pytest.mark.parametrize(("top", "height"), [(0, 12), (0, 1), (5, 3), (7, 5), (11, 1)])
def test_decoding_returns_the_requested_rows(top, height):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 5, 3), np.uint8)
    coded = np.concatenate(
        [tile_codec.encode(part) for part in tile_codec.split_into_tiles(pixels, 6)], axis=2
    )
    np.testing.assert_array_equal(
        tile_codec.decode(coded, 6, top, height), pixels[:, top : top + height]
    )
