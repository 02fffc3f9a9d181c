import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from jaxvsr import evaluate, metrics, models
from jaxvsr.data.degradations import imresize
from jaxvsr.data.sources import Clip
from jaxvsr.errors import InputError


class Source:
    """Three clips of two sizes, made up."""

    scale = 4
    clips = (Clip("a", 3, 48, 64), Clip("b", 3, 48, 64), Clip("c", 2, 64, 48))

    def read(self, clip, frames):
        height, width = self.clips[clip].height, self.clips[clip].width
        rng = np.random.default_rng(clip)
        coarse = rng.integers(0, 256, (10, height // 8, width // 8, 3), np.uint8)
        gt = imresize(coarse, 8)[list(frames)]
        return {"gt": gt, "lq": imresize(gt, 1 / 4)}


def protocol(**changes):
    fields = {
        "dataset": "made up",
        "split": "val",
        "channel": "rgb",
        "crop": 0,
        "frames": (),
        "clips": 0,
    }
    return ml_collections.ConfigDict(fields | changes)


def enlarge(variables, lq):
    """Stands for a model: repeats pixels."""
    return lq.repeat(4, axis=2).repeat(4, axis=3), None


def score(restore=enlarge, **how):
    settings = protocol(**how.pop("protocol", {}))
    return evaluate.evaluate(restore, Source(), settings, {"params": jnp.zeros(())}, **how)


def test_scores_are_those_of_the_metrics():
    result = score(baseline=True)
    for i, clip in enumerate(Source.clips):
        frames = Source().read(i, range(clip.length))
        outputs = {
            "model": frames["lq"].repeat(4, axis=1).repeat(4, axis=2),
            "bicubic": imresize(frames["lq"], 4),
        }
        for method, sr in outputs.items():
            scores = result.scores[method]
            np.testing.assert_array_equal(scores["psnr"][clip.name], metrics.psnr(sr, frames["gt"]))
            np.testing.assert_array_equal(scores["ssim"][clip.name], metrics.ssim(sr, frames["gt"]))
    clips = [values.mean() for values in result.scores["model"]["psnr"].values()]
    assert result.mean("model", "psnr") == pytest.approx(np.mean(clips))


def test_the_table_says_what_was_scored():
    table = score(baseline=True).table()
    assert table.startswith("made up val: 3 clips, all frames, RGB\n")
    assert "| bicubic " in table and "| model " in table and "PSNR" in table
    assert "| bicubic " not in score().table()


def test_the_protocol_is_obeyed():
    some = score(protocol={"frames": (1,), "clips": 2, "crop": 4, "channel": "y"})
    assert list(some.scores["model"]["psnr"]) == ["a", "b"]
    frames = Source().read(0, range(3))
    sr = frames["lq"].repeat(4, axis=1).repeat(4, axis=2)
    expected = metrics.psnr(sr[[1]], frames["gt"][[1]], 4, "y")
    np.testing.assert_array_equal(some.scores["model"]["psnr"]["a"], expected)
    assert some.title == "made up val: 2 clips, frames (1,), Y, a border of 4 left out"


def test_it_can_be_stopped():
    with pytest.raises(evaluate.Stopped):
        score(stop=lambda: True)


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
    sr, computed = evaluate.make_restorer(model)(variables, lq)
    exact = model.apply(variables, lq / np.float32(255))
    assert sr.dtype == jnp.uint8
    np.testing.assert_allclose(sr, np.clip(exact, 0, 1) * 255, atol=0.501)
    # All of the first frame of each branch, and later three branches of four.
    expected = np.array([0.75 if t else 1.0 for t in range(3)])
    np.testing.assert_allclose(computed.mean((0, 2, 3)), expected)


def test_the_picture_shows_the_middle_frame_side_by_side():
    def with_masks(variables, lq):
        return enlarge(variables, lq)[0], np.full(lq.shape[:4], 0.25)

    plain, masked = score().picture, score(with_masks).picture
    assert plain.dtype == np.uint8
    gap = 4
    assert plain.shape[1] == 4 * 64 + 3 * gap and masked.shape[1] == 5 * 64 + 4 * gap
    frames = Source().read(0, range(3))
    height = plain.shape[0] - 48
    panel = plain[height:, 3 * (64 + gap) :]
    np.testing.assert_array_equal(panel, frames["gt"][1])
    np.testing.assert_array_equal(plain[height:, :64][::4, ::4], frames["lq"][1])


@pytest.mark.parametrize(
    ("fields", "changes", "message"),
    [
        ({"scale": 2}, {}, "is for scale 4, the model's scale is 2"),
        ({}, {"frames": (2,)}, "clip 'c' has 2 frames"),
        ({"align": True}, {}, "cannot be scored: frames of 12x12 pixels are too small"),
    ],
)
def test_what_cannot_be_scored_is_refused(fields, changes, message):
    tiny = {"dim": 4, "depths": (1,), "num_heads": (1,), "mid_channels": 4, "align": False}
    model = models.create("iiavsr", **tiny | fields)
    with pytest.raises(InputError, match=message):
        evaluate.check(protocol(**changes), Source(), model)
