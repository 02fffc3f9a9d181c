import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import reference

from jaxvsr import metrics, models
from jaxvsr.data.degradations import imresize
from jaxvsr.data.sources import Clip
from jaxvsr.errors import InputError
from jaxvsr.evaluation import drawing, restoring, scoring
from jaxvsr.evaluation.protocol import METRICS, warn_of_other_degradation
from jaxvsr.pixels import to_integers


class Source:
    """Three clips of two sizes, made up."""

    scale = 4
    degradation = "bicubic"
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
        "lq_frames": (),
        "gt_frames": (),
        "noise": 0.0,
        "clips": 0,
        "every": 10,
        "metrics": ("psnr", "ssim"),
        "niqe_parameters": "",
        "input": "plain",
        "tile": (0, 0, 0),
        "overlap": (0, 0, 0),
        "multiple": (1, 1, 1),
        "space": 1,
    }
    return ml_collections.ConfigDict(fields | changes)


def enlarge(variables, lq):
    """Stands for a model: repeats pixels."""
    return jnp.repeat(jnp.repeat(lq / jnp.float32(255), 4, axis=2), 4, axis=3), None


def score(restore=enlarge, **how):
    settings = protocol(**how.pop("protocol", {}))
    return scoring.evaluate(restore, Source(), settings, {"params": jnp.zeros(())}, **how)


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
    changes = {"tile": (2, 0, 0), "input": "mirror"}
    assert score(protocol=changes).title().endswith("RGB, input mirror, in tiles of 2x0x0")
    title = score(dtype="bfloat16").title()
    assert title == "made up val: 3 clips, all frames, RGB, computed in bfloat16"


def test_kinds_of_clips_are_scored_apart(monkeypatch, tmp_path):
    assert score().kinds == []
    kinds = ("tripod", "moving", "tripod")
    clips = tuple(
        dataclasses.replace(clip, kind=kind) for clip, kind in zip(Source.clips, kinds, strict=True)
    )
    monkeypatch.setattr(Source, "clips", clips)
    result = score(baseline=True)
    assert result.kinds == ["tripod", "moving"]
    by_clip = {clip: x.mean() for clip, x in result.scores["model"]["psnr"].items()}
    assert result.mean("model", "psnr", "moving") == by_clip["b"]
    mean = result.mean("model", "psnr", "tripod")
    assert mean == pytest.approx((by_clip["a"] + by_clip["c"]) / 2)
    assert f"| model, tripod   |   {mean:.4f} |" in result.table()
    path = result.save(tmp_path, "set", {"checkpoint": "step 7", "config": {}})
    found = json.loads(path.with_suffix(".json").read_text())
    assert found["scores"]["model"]["psnr"]["kinds"]["tripod"] == mean


def test_the_protocol_is_obeyed():
    some = score(protocol={"frames": (1,), "clips": 2, "crop": 4, "channel": "y"})
    assert list(some.scores["model"]["psnr"]) == ["a", "b"]
    frames = Source().read(0, range(3))
    sr = frames["lq"].repeat(4, axis=1).repeat(4, axis=2)
    expected = metrics.psnr(sr[[1]], frames["gt"][[1]], 4, "y")
    np.testing.assert_array_equal(some.scores["model"]["psnr"]["a"], expected)
    assert some.title() == "made up val: 2 clips, frames 1, Y, a border of 4 left out"


def test_it_can_be_stopped():
    with pytest.raises(scoring.Stopped):
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


def test_the_picture_shows_the_middle_frame_side_by_side():
    def with_masks(variables, lq):
        return enlarge(variables, lq)[0], jnp.full(lq.shape[:4], 0.25)

    plain, masked = score().picture, score(with_masks).picture
    assert plain.dtype == np.uint8
    gap = 4
    assert plain.shape[1] == 4 * 64 + 3 * gap and masked.shape[1] == 5 * 64 + 4 * gap
    frames = Source().read(0, range(3))
    height = plain.shape[0] - 48
    panel = plain[height:, 3 * (64 + gap) :]
    np.testing.assert_array_equal(panel, frames["gt"][1])
    np.testing.assert_array_equal(plain[height:, :64][::4, ::4], frames["lq"][1])


def test_masks_are_drawn_of_the_first_clip_or_a_tile_of_it(monkeypatch):
    seen = []

    def masks_of(model, variables, lq):
        seen.append(lq.shape)
        return {"forward_1/group_0/block_0": np.ones(lq.shape[:3], bool)}

    monkeypatch.setattr(drawing.mask_pictures, "masks_of", masks_of)
    variables = {"params": jnp.zeros(())}
    for tile, expected in (((0, 0, 0), (3, 12, 16, 3)), ((2, 8, 0), (2, 8, 16, 3))):
        model = models.create("miavsr")
        drawn, film = drawing.draw_masks(model, Source(), protocol(tile=tile), variables)
        assert seen[-1] == expected and len(film) == expected[0]
        assert drawn["masks"].shape[0] == 22 + 10 * expected[1]  # small frames are enlarged
    without = models.create("iiavsr")
    assert drawing.draw_masks(without, Source(), protocol(), variables) == ({}, [])


@pytest.mark.parametrize("tile", [(0, 0, 0), (2, 8, 8)])
@pytest.mark.parametrize(("rule", "seen"), [("plain", 3), ("mirror", 6), ("repeat", 4)])
def test_input_rules(rule, seen, tile):
    """A model that adds to a frame what is behind it in time, in the input it was given."""
    lengths = []

    def model(variables, lq):
        lengths.append(lq.shape[1])
        time = jnp.arange(lq.shape[1], dtype=jnp.float32)[:, None, None, None]
        return enlarge(variables, lq)[0] + 2 * time / 255, None

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


def test_files_of_a_score(tmp_path):
    result = score(baseline=True, name="tiny")
    origin = {"checkpoint": "step 7", "config": {"model": {"name": "tiny"}}}
    path = result.save(tmp_path / "eval", "set", origin)
    text, table, values = (path.with_suffix(suffix) for suffix in (".md", ".csv", ".json"))
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 8 and list(rows[0]) == ["method", "clip", "frame", "psnr", "ssim"]
    (row,) = (r for r in rows if (r["method"], r["clip"], r["frame"]) == ("tiny", "c", "1"))
    assert float(row["psnr"]) == result.scores["tiny"]["psnr"]["c"][1]
    found = json.loads(values.read_text())
    assert found["scores"]["bicubic"]["ssim"]["mean"] == result.mean("bicubic", "ssim")
    assert found["scores"]["tiny"]["psnr"]["clips"].keys() == {"a", "b", "c"}
    assert found["checkpoint"] == "step 7" and found["config"] == {"model": {"name": "tiny"}}
    assert found["protocol"]["channel"] == "rgb" and "every" not in found["protocol"]
    assert result.table() in text.read_text() and "- checkpoint: step 7" in text.read_text()
    assert not list(tmp_path.rglob("*.part"))


def test_the_drawn_frames_are_the_best_the_median_and_the_worst(monkeypatch):
    chosen = {}

    def keep(scale, t, lq, gt, sr, computed):
        chosen[float(metrics.psnr(sr[[t]], gt[[t]])[0])] = t
        return gt[t]

    psnr = score().scores["model"]["psnr"]
    monkeypatch.setattr(scoring, "comparison", keep)
    variables = {"params": jnp.zeros(())}
    drawn = scoring.draw(enlarge, Source(), protocol(), variables, psnr)
    assert list(drawn) == ["best", "median", "worst", "profile"]
    ranked = sorted(np.concatenate(list(psnr.values())))
    assert sorted(chosen) == [ranked[0], ranked[4], ranked[-1]]


def test_a_profile_is_a_column_over_time():
    gt = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), np.uint8)
    lq, sr = gt[:, ::4, ::4], gt // 2
    picture = drawing.temporal_profile(4, lq, gt, sr)[-16:]
    frame = 24 // (2 * 5) + 1  # pixels that a frame takes
    assert picture.shape == (16, 24 + 3 * (4 + 5 * frame), 3)
    last = picture[:, -5 * frame :: frame]
    np.testing.assert_array_equal(last, gt[:, :, 12].swapaxes(0, 1))


def test_a_full_memory_is_explained():
    def model(variables, lq):
        raise jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"
        )

    with pytest.raises(
        InputError, match=r"smaller tiles than \(3, 12, 16\): eval.tile .*9 bytes.\)"
    ):
        score(model)


def test_every_metric_reaches_the_tables(tmp_path):
    changes = {
        "metrics": METRICS,
        "niqe_parameters": str(reference.GOLDEN / "niqe_parameters.npz"),
        "clips": 1,
    }

    class Large(Source):
        clips = (Clip("a", 3, 96, 192),)

    settings = protocol(**changes)
    result = scoring.evaluate(enlarge, Large(), settings, {"params": jnp.zeros(())})
    assert all(f" {head} " in result.table() for head in ("PSNR (dB)", "SSIM", "GMSD ↓", "NIQE ↓"))
    header, first, *_, last = result.csv().splitlines()
    assert header == "method,clip,frame,psnr,ssim,gmsd,niqe,tof"
    # tOF is of a frame and the one before.
    assert first.startswith("model,a,0,") and first.endswith(",")
    assert last.startswith("model,a,2,") and float(last.split(",")[-1]) > 0


def test_another_degradation_is_warned_of(capsys):
    warn_of_other_degradation("bicubic", Source(), "vid4")
    assert not capsys.readouterr().out
    warn_of_other_degradation("bd", Source(), "vid4")
    said = capsys.readouterr().out
    assert "trained on inputs degraded by 'bd', vid4 is degraded by 'bicubic'" in said


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


def test_an_unknown_input_rule_is_refused():
    clips = [(np.zeros((2, 8, 8, 3), np.uint8), 0)]
    with pytest.raises(ValueError, match="unknown input rule 'typo'; expected one of: plain, mir"):
        next(restoring.restore_clips(enlarge, {}, clips, rule="typo"))
