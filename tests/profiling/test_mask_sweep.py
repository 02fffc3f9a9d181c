import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxvsr import models
from jaxvsr.layers.sown import sown
from jaxvsr.profiling import mask_sweep


@pytest.mark.parametrize("kind", mask_sweep.KINDS)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_masks_keep_the_share(kind, share):
    mask = mask_sweep.KINDS[kind](share, 60, 80)
    assert mask.dtype == np.float32 and set(np.unique(mask)) <= {0.0, 1.0}
    assert mask.mean() == pytest.approx(share, abs=1e-3)


def test_blobs_leave_windows_out_as_trained_masks_do():
    windows = [
        np.pad(mask_sweep.blobs(0.3, 180, 320, seed), ((0, 4), (0, 0)))
        .reshape(23, 8, 40, 8)
        .any((1, 3))
        .mean()
        for seed in range(4)
    ]
    assert np.mean(windows) == pytest.approx(0.45, abs=0.03)


@pytest.fixture(scope="module")
def programs():
    fields = {"dim": 4, "depths": (1,), "num_heads": (1,), "mid_channels": 4, "features_hr": 4}
    model = models.create("miavsr", **fields, align=False)
    lq = jax.random.uniform(jax.random.key(0), (2, 2, 12, 20, 3))
    rng, shapes = np.random.default_rng(1), jax.eval_shape(model.init, jax.random.key(1), lq)
    variables = jax.tree.map(lambda leaf: np.float32(0.2 * rng.normal(size=leaf.shape)), shapes)
    return model, variables, lq, mask_sweep.network(model, variables, lq)


def test_forced_masks_are_obeyed_by_every_block(programs):
    model, variables, lq, _ = programs
    mask = mask_sweep.scattered(0.4, 12, 20)

    @jax.jit
    def run(variables, lq, mask):
        with mask_sweep.forced_masks(mask):
            return model.apply(variables, lq, mutable="aux")[1]["aux"]

    found = sown(run(variables, lq, mask), "mask")
    assert len(found) == 4
    for masks in found:  # (t, b, h, w), all kept where a branch starts
        first, later = sorted(masks, key=lambda frame: -frame.mean())
        assert (first == 1).all()
        np.testing.assert_array_equal(later, [mask, mask])


def test_a_sweep_compares_what_it_was_asked_for(programs):
    wanted = [("blobs", 0.2), ("scattered", 0.5), ("blobs", 1.0)]
    rows = mask_sweep.compare(*programs[-1], (12, 20), wanted, 2)
    assert [(row.kind, row.share) for row in rows] == wanted
    assert all(row.difference < 1e-6 and row.wall > 0 and row.work > 0 for row in rows)
    assert rows[2].windows == 1
    assert "| scattered | 50% | " in mask_sweep.table(rows)
    assert mask_sweep.chart(rows).shape == (400, 640, 3)


def test_other_modules_are_left_alone():
    layer = nn.Dense(3)
    x = np.ones((2, 4), np.float32)
    variables = layer.init(jax.random.key(0), x)
    with mask_sweep.forced_masks(jax.numpy.zeros((2, 2))):
        np.testing.assert_array_equal(layer.apply(variables, x), layer.clone().apply(variables, x))
