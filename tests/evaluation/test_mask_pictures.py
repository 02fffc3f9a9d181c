import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr import models
from jaxvsr.evaluation import mask_pictures
from jaxvsr.layers.sown import sown

BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")
LQ = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 3), np.uint8)


@pytest.fixture(scope="module")
def masks():
    rng = np.random.default_rng(0)
    return {
        f"{branch}/group_0/block_{i}": rng.random((3, 12, 20)) < 0.3
        for branch in BRANCHES
        for i in (0, 1)
    }


def test_masks_are_those_that_the_model_sows():
    fields = {"dim": 4, "depths": (1,), "num_heads": (1,), "mid_channels": 4, "features_hr": 4}
    model = models.create("miavsr", **fields, align=False)
    shapes = jax.eval_shape(model.init, jax.random.key(1), LQ[None] / np.float32(255))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: jnp.float32(0.2 * rng.normal(size=leaf.shape)), shapes)
    found = mask_pictures.masks_of(model, variables, LQ)
    assert sorted(found) == sorted(f"{branch}/group_0/block_0" for branch in BRANCHES)
    apply = jax.jit(lambda lq: model.apply(variables, lq, mutable="aux")[1]["aux"])
    expected = sown(apply(LQ[None] / np.float32(255)), "mask")
    total = sum(mask.astype(int) for mask in found.values())
    np.testing.assert_array_equal(total, sum(np.asarray(mask)[:, 0] for mask in expected))
    assert mask_pictures.masks_of(models.create("bicubic"), {}, LQ) == {}


def test_a_panel_for_each_block_and_each_branch(masks):
    picture = mask_pictures.draw_blocks(masks, LQ, 1)
    factor = 160 // 20  # small frames are enlarged
    assert picture.shape == (4 * (22 + 12 * factor), 3 * 160 + 2 * 4, 3)
    # Dropped tokens are grey, kept ones red.
    last = picture[-12 * factor :: factor, -160::factor].astype(int)
    red = last[..., 0] - last[..., 2] > 100
    np.testing.assert_array_equal(red, masks["forward_2/group_0/block_1"][1])


def test_many_panels_are_made_to_fit(masks):
    wide = np.zeros((1, 8, 1600, 3), np.uint8)
    picture = mask_pictures.draw_blocks({k: np.ones((1, 8, 1600), bool) for k in masks}, wide, 0)
    assert picture.shape[1] <= mask_pictures.WIDTH + 2 * 4


def test_the_video_shows_shares_of_blocks(masks):
    frame = mask_pictures.draw_frame(masks, LQ, 2)
    factor = 640 // 20
    assert frame.shape == (2 * (22 + 12 * factor), 3 * 640 + 2 * 4, 3)
    np.testing.assert_array_equal(frame[22 : 22 + 12 * factor : factor, :640:factor], LQ[2])
