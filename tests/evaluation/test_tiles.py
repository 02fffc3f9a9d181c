import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvsr.evaluation import restoring, tiles


def enlarge(scale):
    """Stands for a network that looks at nothing but the pixel itself."""
    return lambda lq: [np.stack(lq).repeat(scale, axis=2).repeat(scale, axis=3)]


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 20), st.integers(1, 20)),
    tile=st.tuples(st.integers(0, 7), st.integers(0, 22), st.integers(0, 22)),
    data=st.data(),
    scale=st.sampled_from([1, 2, 4]),
    at_once=st.integers(1, 3),
)
def test_pixelwise_networks_are_exact_in_tiles(size, tile, data, scale, at_once):
    overlap = tuple(data.draw(st.integers(0, max(side - 1, 0))) for side in tile)
    tiles.check_tiles(tile, overlap)
    lq = np.random.default_rng(0).random((*size, 3), np.float32)
    (whole,) = enlarge(scale)([lq])
    (tiled,) = tiles.by_tiles(enlarge(scale), lq, tile, overlap, at_once)
    np.testing.assert_allclose(tiled, whole[0], rtol=1e-6)


def test_no_tile_is_larger_or_smaller_than_asked_for():
    seen = []

    def run(lq):
        seen.extend(piece.shape for piece in lq)
        return enlarge(4)(lq)

    tiles.by_tiles(run, np.zeros((7, 20, 30, 3)), (3, 8, 12), (1, 2, 4))
    assert set(seen) == {(3, 8, 12, 3)} and len(seen) == 3 * 3 * 4


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "expected"),
    [
        (7, 4, 2, [0, 2, 3]),
        (8, 4, 0, [0, 4]),
        (4, 4, 2, [0]),
        (3, 4, 2, [0]),
        (9, 4, 2, [0, 2, 4, 5]),
    ],
)
def test_starts(size, tile, overlap, expected):
    assert tiles.starts(size, tile, overlap) == expected


def test_overlaps_are_averaged_in_time_and_cut_in_space():
    counts = itertools.count(1)

    def number(lq):
        shape = (len(lq), *lq[0].shape[:3], 1)
        return [np.full(shape, next(counts), np.float32)]

    # Two tiles of four frames, that share one.
    (y,) = tiles.by_tiles(number, np.zeros((7, 2, 2, 3)), (4, 2, 2), (1, 0, 0))
    np.testing.assert_array_equal(y[:, 0, 0, 0], [1, 1, 1, 1.5, 2, 2, 2])
    counts = itertools.count(1)
    # Two tiles of six rows, that share three: the first gives up two, the second one.
    (y,) = tiles.by_tiles(number, np.zeros((1, 9, 2, 3)), (1, 6, 2), (0, 3, 0))
    np.testing.assert_array_equal(y[0, :, 0, 0], [1, 1, 1, 1, 2, 2, 2, 2, 2])


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        ((0, 8, 8), (0, 8, 0), "overlap of tiles in height, 8, must be smaller than the tile, 8"),
        ((4, 8), (0, 0, 0), "three numbers each"),
        ((4, 8, 8), (0, -1, 0), "none negative"),
    ],
)
def test_impossible_tiles_are_refused(tile, overlap, message):
    with pytest.raises(ValueError, match=message):
        tiles.check_tiles(tile, overlap)


@pytest.mark.parametrize(
    ("tile", "seen"),
    [((0, 0, 0), {(8, 16, 24)}), ((0, 8, 8), {(8, 8, 8)}), ((3, 0, 8), {(3, 16, 8)})],
)
def test_axes_that_are_not_tiled_are_mirrored_to_multiples_and_cropped(tile, seen):
    lq = np.random.default_rng(0).integers(0, 256, (7, 10, 20, 3), np.uint8)
    given = []

    def double(variables, lq):
        given.append(lq.shape[1:4])
        assert np.array_equal(lq[:, 7:], lq[:, 6:7]) or tile[0]  # the last frame once more
        return jnp.repeat(jnp.repeat(lq / 255, 2, axis=2), 2, axis=3), None

    ((_, sr, _),) = restoring.restore_clips(
        double, {}, [(lq, None)], tile=tile, overlap=(1, 2, 2), multiple=(4, 8, 8)
    )
    assert set(given) == seen
    np.testing.assert_array_equal(sr, lq.repeat(2, axis=1).repeat(2, axis=2))
