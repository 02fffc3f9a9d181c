"""Gated computation in upscale."""

import dataclasses

import jax
import numpy as np
import pytest
from clips import finish, start

from jaxvsr import models
from jaxvsr.upscaling import gated


@dataclasses.dataclass
class Timed:
    """Stands for an engine."""

    duration: float
    tile: tuple[int, int] = (64, 64)

    def seconds(self, lq):
        return self.duration


@pytest.mark.parametrize(
    ("duration", "tile", "faster"),
    [
        (0.5, (64, 64), True),
        (0.97, (64, 64), False),
        (float("inf"), (64, 64), False),  # it ran out of memory
        (0.1, (64, 32), False),  # it only fits in smaller tiles
    ],
)
def test_gated_computation_is_used_where_it_pays(duration, tile, faster):
    said = []
    lq = np.zeros((1, 64, 64, 3), np.uint8)
    assert gated.is_faster(Timed(duration, tile), Timed(1.0), lq, said.append) == faster
    assert [("not used" in line) for line in said] == ([] if tile != (64, 64) else [not faster])


def test_a_masked_network_gives_the_dense_result():
    sizes = {"dim": 4, "depths": (1,), "num_heads": (1,), "mid_channels": 4, "features_hr": 4}
    model = models.create("miavsr", **sizes, align=False, mask_start=0.05)
    clip = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    clip[:, :, 16:] = clip[:1, :, 16:]  # three quarters of the frame stand still
    variables = jax.jit(model.init)(jax.random.key(0), clip[None, :1] / np.float32(255))
    said = []
    how = {"chunk": 3, "overlap": 0}
    stream = start(model, variables, clip, said, **how, gated=None)
    sr = finish(stream)
    assert sum("gated computation takes" in line for line in said) == 1
    # A resumed run takes the choice and does not measure again.
    again = start(model, variables, clip, said, **how, gated=stream.settings.gated)
    np.testing.assert_array_equal(finish(again), sr)
    assert sum("gated computation takes" in line for line in said) == 1
    one_chunk = start(model, variables, clip[:3], said, **how, gated=None)
    assert one_chunk.settings.gated is False and sum("takes" in line for line in said) == 1
    dense = [model.apply(variables, clip[None, i : i + 3] / np.float32(255))[0] for i in (0, 3, 6)]
    expected = (np.concatenate(dense).clip(0, 1) * 255).round()
    assert np.abs(sr - expected).max() <= 1
    for unmasked in (model.clone(use_mask=False), model.clone(gating="bucketed")):
        assert gated.gated_form(unmasked) is None
    assert gated.gated_form(models.create("bicubic")) is None
