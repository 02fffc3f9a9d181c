"""Grids of tiles."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jaxvsr.upscaling.tile_grid import TileGrid


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(4, 20), st.integers(4, 20)),
    st.tuples(st.integers(3, 20), st.integers(3, 20)),
    st.integers(0, 6),
    st.sampled_from([1, 2, 3]),
)
def test_pasted_and_merged_tiles_equal_the_frame(size, tile, overlap, scale):
    grid = TileGrid(size, tuple(map(min, tile, size)), overlap)
    whole = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    large = whole.repeat(scale, 1).repeat(scale, 2)
    put = np.zeros(0)
    for i in range(len(grid.places)):
        put = grid.paste(put, large[:, *grid.window(i, scale)], i, scale)
    np.testing.assert_array_equal(put, large)
    tree = {"a": whole, "b": whole[..., :1].astype(np.float32)}
    merged = grid.merge(grid.split(tree))
    jax.tree.map(np.testing.assert_array_equal, merged, tree)
