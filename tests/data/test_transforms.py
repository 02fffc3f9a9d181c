import itertools

import numpy as np
import pytest
import reference

from jaxvsr.data import transforms


@pytest.mark.parametrize("turns", list(itertools.product([0, 1], repeat=3)))
def test_augment_golden(turns):
    _, _, arrays = reference.load("data_rules")
    hflip, vflip, transpose = turns
    out = transforms.augment(arrays["augment/in"][None], *map(bool, turns))
    np.testing.assert_array_equal(out[0], arrays[f"augment/h{hflip}v{vflip}t{transpose}"])


def test_mirror():
    frames = np.arange(3 * 5 * 6 * 1).reshape(3, 5, 6, 1)
    both = transforms.mirror(frames)
    np.testing.assert_array_equal(both, both[::-1])
    np.testing.assert_array_equal(both[:3], frames)


def test_contiguous_copies_any_order():
    planes = np.arange(3 * 2 * 5 * 6, dtype=np.uint8).reshape(3, 2, 5, 6)
    frames = np.moveaxis(planes, 0, -1)[:, ::-1].swapaxes(1, 2)
    out = transforms.contiguous(frames)
    assert out.flags.c_contiguous and out.dtype == np.uint8
    np.testing.assert_array_equal(out, frames)


def test_augment_makes_every_rotation():
    frames = np.arange(2 * 4 * 4 * 1).reshape(2, 4, 4, 1)
    made = {
        transforms.augment(frames, *turns).tobytes()
        for turns in itertools.product([False, True], repeat=3)
    }
    rotated = {np.rot90(frames, k, axes=(1, 2)).tobytes() for k in range(4)}
    assert rotated < made and len(made) == 8
