"""Clips restored by a model: input rules, rounding, memory."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from scored import repeat_pixels, score

from jaxvsr import metrics, models
from jaxvsr.errors import InputError
from jaxvsr.evaluation import restoring
from jaxvsr.pixels import to_integers


def test_a_model_is_restored_rounded_and_its_masks_shown():
    model = models.create(
        "miavsr", dim=4, depths=(1,), num_heads=(1,), mid_channels=4, features_hr=4, align=False
    )
    lq = np.random.default_rng(0).integers(0, 256, (2, 3, 12, 16, 3), np.uint8)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros(lq.shape))
    # A predictor that keeps what changed, hardly or not at all.
    for branch in ("backward_1", "forward_1", "backward_2", "forward_2"):
        predictor = variables["params"][branch]["group_0"]["block_0"]["predictor"]["linear"]
        predictor["bias"] = jnp.full((1,), -1.0 if branch == "forward_1" else 1.0)
        predictor["kernel"] = jnp.zeros_like(predictor["kernel"])
    restorer = restoring.make_restorer(model)
    (_, sr, computed), second = restoring.restore_clips(
        restorer, variables, zip(lq, "ab", strict=True)
    )
    assert second[0] == "b"
    exact = model.apply(variables, jnp.asarray(lq / np.float32(255)))
    assert sr.dtype == jnp.uint8
    np.testing.assert_allclose(sr, np.clip(exact[0], 0, 1) * 255, atol=0.501)
    # All of the first frame of each branch, and later three branches of four.
    expected = np.array([0.75 if t else 1.0 for t in range(3)])
    np.testing.assert_allclose(computed.mean((1, 2)), expected)


@pytest.mark.parametrize("tile", [(0, 0, 0), (2, 8, 8)])
@pytest.mark.parametrize(("rule", "seen"), [("plain", 3), ("mirror", 6), ("repeat", 4)])
def test_input_rules(rule, seen, tile):
    """A model that adds to a frame what is behind it in time, in the input it was given."""
    lengths = []

    def model(variables, lq):
        lengths.append(lq.shape[1])
        time = jnp.arange(lq.shape[1], dtype=jnp.float32)[:, None, None, None]
        return repeat_pixels(variables, lq)[0] + 2 * time / 255, None

    lq = np.random.default_rng(0).integers(0, 240, (3, 12, 12, 3), np.uint8)
    ((item, sr, computed),) = restoring.restore_clips(
        model, {"params": jnp.zeros(())}, [(lq, "x")], rule=rule, tile=tile
    )
    assert item == "x" and computed is None and sr.shape == (3, 48, 48, 3)
    assert sum(lengths) == (seen if not any(tile) else -(-seen // 2) * 2 * 4)
    if not any(tile):
        # Mirrored, frame i is also seen at 5 - i: the mean of 2i and 2(5 - i).
        added = np.full(3, 5) if rule == "mirror" else 2 * np.arange(3)
        expected = lq.repeat(4, 1).repeat(4, 2) + added[:, None, None, None]
        np.testing.assert_array_equal(sr, expected)


class Shade(nn.Module):
    """Darkens frames towards the top, and computes tokens of their left half."""

    scale: int = 1

    @nn.compact
    def __call__(self, lq, train=False):
        h, w = lq.shape[2:4]
        left = jnp.broadcast_to(jnp.arange(w) < w // 2, lq.shape[:-1])
        self.sow("aux", "mask", jnp.moveaxis(left, 0, 1).astype(jnp.float32))
        return lq * jnp.linspace(0, 1, h)[:, None, None]


@pytest.mark.parametrize("tile", [(0, 0, 0), (2, 4, 4)])
def test_a_self_ensemble_averages_outputs_and_masks(tile):
    lq = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
    restorer = restoring.make_restorer(Shade(), ensemble=True)
    ((_, sr, computed),) = restoring.restore_clips(
        restorer, {}, [(lq, 0)], rounded=False, tile=tile
    )
    assert sr.dtype == np.float32
    np.testing.assert_allclose(sr, lq / np.float32(510), atol=1e-6)
    np.testing.assert_allclose(computed, np.full((2, 8, 12), 0.5))


def test_an_unknown_input_rule_is_refused():
    clips = [(np.zeros((2, 8, 8, 3), np.uint8), 0)]
    with pytest.raises(ValueError, match="unknown input rule 'typo'; expected one of: plain, mir"):
        next(restoring.restore_clips(repeat_pixels, {}, clips, rule="typo"))


def test_a_full_memory_is_explained():
    def model(variables, lq):
        raise jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"
        )

    with pytest.raises(
        InputError, match=r"smaller tiles than \(3, 12, 16\): eval.tile .*9 bytes.\)"
    ):
        score(model)


def test_mirrored_septuplets_golden():
    """RVRT's own test of Vimeo-90K: the mean of frames 3 and 10 of fourteen, in 8 bits."""
    _, _, arrays = reference.load("vimeo_protocol")
    sr = to_integers(restoring.as_output(arrays["metric/sr"], "mirror"))[3:4]
    gt = arrays["metric/gt"][3:4]
    for metric in ("psnr", "ssim"):
        for suffix, channel in (("", "rgb"), ("_y", "y")):
            expected = float(arrays[f"metric/rvrt_{metric}{suffix}"])
            score = getattr(metrics, metric)(sr, gt, channel=channel)
            assert score[0] == pytest.approx(expected, rel=1e-6), (metric, channel)
