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


def test_crop_and_mirror():
    frames = np.arange(3 * 5 * 6 * 1).reshape(3, 5, 6, 1)
    np.testing.assert_array_equal(transforms.crop(frames, 1, 2, 3), frames[:, 1:4, 2:5])
    both = transforms.mirror(frames)
    np.testing.assert_array_equal(both, both[::-1])
    np.testing.assert_array_equal(both[:3], frames)
