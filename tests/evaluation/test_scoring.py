"""Scores of a model over clips."""

import dataclasses
import json

import numpy as np
import pytest
from scored import Source, score

from jaxvsr import metrics
from jaxvsr.data.degradations import h264, imresize
from jaxvsr.evaluation import drawing, scoring


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
    assert (
        some.title()
        == "made up val: 2 clips, part of made up (3 clips), inputs by bicubic, frames 1, Y, "
        "a border of 4 left out"
    )


def test_inputs_can_be_compressed_before_they_are_scored():
    plain, worse = score(), score(protocol={"degradation": "h264(crf=45)"}, baseline=True)
    assert worse.protocol["degradation"] == "bicubic, h264(crf=45)"
    frames = Source().read(0, range(3))
    lq = h264(frames["lq"], crf=45)
    expected = metrics.psnr(lq.repeat(4, axis=1).repeat(4, axis=2), frames["gt"])
    np.testing.assert_array_equal(worse.scores["model"]["psnr"]["a"], expected)
    assert worse.mean("model", "psnr") < plain.mean("model", "psnr")
    bicubic = metrics.psnr(imresize(lq, 4), frames["gt"])
    np.testing.assert_array_equal(worse.scores["bicubic"]["psnr"]["a"], bicubic)
    assert "3 clips, inputs by bicubic, h264(crf=45), all frames" in worse.title()


def test_it_can_be_stopped():
    with pytest.raises(scoring.Stopped):
        score(stop=lambda: True)


def test_a_known_baseline_is_not_scored_again(monkeypatch):
    first = score(baseline=True)
    monkeypatch.delattr(scoring, "imresize")
    monkeypatch.setattr(drawing, "imresize", lambda lq, scale: lq.repeat(4, -3).repeat(4, -2))
    again = score(baseline=True, known=first.scores)
    assert list(again.scores) == ["bicubic", "model"]
    assert again.scores["bicubic"] is first.scores["bicubic"]
    assert again.table() == first.table()


@pytest.mark.parametrize("near", [1, 2, drawing.NEAR])
def test_the_drawn_frames_are_the_best_the_median_and_the_worst(monkeypatch, near):
    """Without restoring any clip again. With few frames kept, the median is about right."""
    monkeypatch.setattr(drawing, "NEAR", near)
    result = score()
    assert list(result.drawn) == ["frame", "profile", "best", "median", "worst"]
    ranked = np.sort(np.concatenate(list(result.scores["model"]["psnr"].values())))
    shown = {
        kind: metrics.psnr(result.drawn[kind]["sr"][None], result.drawn[kind]["gt"][None])[0]
        for kind in ("best", "median", "worst")
    }
    assert shown["best"] == ranked[-1] and shown["worst"] == ranked[0]
    if near == drawing.NEAR > 1 and near >= len(ranked):
        assert shown["median"] == ranked[len(ranked) // 2]
    assert ranked[0] < shown["median"] < ranked[-1]
    first = Source().read(0, range(3))["gt"]
    np.testing.assert_array_equal(result.drawn["frame"]["gt"], first[1])


def test_progress_is_said_within_a_clip(monkeypatch):
    lines = []

    class Heard(scoring.ClipProgress):
        def restored(self, fraction):
            super().restored(fraction)
            lines.append(self.line())

    monkeypatch.setattr(scoring, "ClipProgress", Heard)
    score(protocol={"tile": (0, 6, 0)})
    heard = [line.split("  ")[:2] for line in lines if "restored" in line]
    assert heard[:2] == [
        ["scoring clip 1/3, a", "50% restored"],
        ["scoring clip 1/3, a", "100% restored"],
    ]
    assert heard[-1] == ["scoring clip 3/3, c", "100% restored"]
