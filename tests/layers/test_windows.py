import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr.layers.windows import (
    fit,
    inside_frame,
    merge,
    partition,
    shift_regions,
    window_kinds,
)


@pytest.mark.parametrize("size", [(1, 16, 24), (3, 18, 21), (5, 7, 9)])
@pytest.mark.parametrize("window", [(1, 8, 8), (3, 4, 8)])
@pytest.mark.parametrize("shift", [(0, 0, 0), (0, 4, 3), (1, 2, 4)])
def test_merge_undoes_partition(size, window, shift):
    x = jnp.float32(np.random.default_rng(0).normal(size=(2, *size, 3)))
    windows = partition(x, window, shift)
    assert windows.shape[2:] == (np.prod(window), 3)
    np.testing.assert_array_equal(merge(windows, size, window, shift), x)


def test_partition_orders_windows_and_tokens_by_time_row_column():
    x = jnp.arange(2 * 4 * 6).reshape(1, 2, 4, 6, 1)
    windows = np.asarray(partition(x, (2, 2, 3)))[0, ..., 0]
    for n, (i, j) in enumerate(np.ndindex(2, 2)):
        expected = x[0, :, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3, 0].ravel()
        np.testing.assert_array_equal(windows[n], expected)


@pytest.mark.parametrize("size", [(16, 24), (18, 21)])
def test_shift_regions_golden(size):
    _, _, arrays = reference.load("op_window_block")
    expected = arrays[f"{size[0]}x{size[1]}/attn_mask"]
    regions = shift_regions((1, *size), (1, 8, 8), (0, 4, 4))
    apart = regions[:, :, None] != regions[:, None, :]
    np.testing.assert_array_equal(apart, expected.astype(bool))
    # A shift by the whole window in time, as published, is none.
    clip = shift_regions((3, *size), (3, 8, 8), (3, 4, 4))
    np.testing.assert_array_equal(clip, np.tile(regions, 3))
    assert not shift_regions((1, *size), (1, 8, 8), (0, 0, 0)).any()


def test_shift_regions_keeps_apart_what_the_roll_brings_together():
    size, window, shift = (4, 8, 12), (2, 4, 4), (1, 2, 3)
    position = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    position = np.asarray(partition(jnp.asarray(position[None]), window, shift))[0]
    regions = shift_regions(size, window, shift)
    near = (np.abs(position[:, :, None] - position[:, None]) < window).all(-1)
    np.testing.assert_array_equal(regions[:, :, None] == regions[:, None, :], near)


def test_windows_shrink_to_the_clip_and_shift_where_there_are_several():
    assert fit((2, 16, 9), (2, 8, 8), True) == ((2, 8, 8), (0, 4, 4))
    assert fit((1, 8, 5), (2, 8, 8), True) == ((1, 8, 5), (0, 0, 0))
    assert fit((6, 16, 9), (2, 8, 8), False) == ((2, 8, 8), (0, 0, 0))


@pytest.mark.parametrize(("shift", "kinds"), [((0, 0, 0), 2), ((0, 4, 4), 4)])
def test_window_kinds_describe_every_window(shift, kinds):
    size, window = (3, 20, 32), (3, 8, 8)
    found = window_kinds(size, window, shift)
    assert found.inside.shape == found.regions.shape == (kinds, 192)
    np.testing.assert_array_equal(found.inside[found.kind], inside_frame(size, window, shift))
    regions = shift_regions(size, window, shift)
    np.testing.assert_array_equal(found.regions[found.kind], regions)
