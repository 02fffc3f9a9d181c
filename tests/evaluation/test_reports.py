"""Scores as tables, CSV and JSON."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import reference
from scored import Source, protocol, repeat_pixels, score

from jaxvsr.data.sources import Clip
from jaxvsr.evaluation import scoring

NIQE = reference.GOLDEN / "niqe_parameters.npz"
METRICS = ("psnr", "ssim", "gmsd", "niqe", "warping_error", "tof")


def test_the_table_says_what_was_scored():
    table = score(baseline=True).table()
    assert table.startswith("made up val: 3 clips, inputs by bicubic, all frames, RGB\n")
    assert "| bicubic " in table and "| model " in table and "PSNR" in table
    assert "| bicubic " not in score().table()
    changes = {"tile": (2, 0, 0), "input": "mirror"}
    assert score(protocol=changes).title().endswith("RGB, input mirror, in tiles of 2x0x0")
    changes = {"self_ensemble": True, "rounded": False}
    assert score(protocol=changes).title().endswith("RGB, self-ensemble of 8, not rounded")
    title = score(dtype="bfloat16").title()
    assert title == "made up val: 3 clips, inputs by bicubic, all frames, RGB, computed in bfloat16"


def test_a_part_is_not_taken_for_the_whole(monkeypatch, tmp_path):
    title = score(protocol={"clips": 2}).title()
    assert title.startswith("made up val: 2 clips, part of made up (3 clips), inputs by")
    monkeypatch.setattr(Source, "part", "part of reds/blur (4 clips)")
    result = score()
    assert result.title().startswith("made up val: 3 clips, part of reds/blur (4 clips), inputs")
    path = result.save(tmp_path, "set", {"checkpoint": "", "config": {}})
    for suffix in (".md", ".json"):
        assert "part of reds/blur (4 clips)" in path.with_suffix(suffix).read_text()


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


def test_every_metric_reaches_the_tables(tmp_path):
    changes = {
        "metrics": METRICS,
        "niqe_parameters": str(NIQE),
        "clips": 1,
    }

    class Large(Source):
        clips = (Clip("a", 3, 96, 192),)

    settings = protocol(**changes)
    result = scoring.evaluate(repeat_pixels, Large(), settings, {"params": jnp.zeros(())})
    heads = "PSNR (dB)", "SSIM", "GMSD ↓", "NIQE ↓", "warping error ↓", "tOF ↓"
    assert all(f" {head} " in result.table() for head in heads)
    header, first, *_, last = result.csv().splitlines()
    assert header == "method,clip,frame,psnr,ssim,gmsd,niqe,warping_error,tof"
    # tOF is of a frame and the one before.
    assert first.startswith("model,a,0,") and first.endswith(",,")
    assert last.startswith("model,a,2,") and float(last.split(",")[-1]) > 0


def only_json(text):
    """Parses JSON as the standard defines it: without NaN and Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


class Black(Source):
    """The first clip is black, so that its restored frames equal their targets."""

    clips = (Clip("a", 3, 96, 192), Clip("b", 3, 96, 192))

    def read(self, clip, frames):
        found = super().read(clip, frames)
        return found if clip else {key: np.zeros_like(x) for key, x in found.items()}


def test_frames_equal_to_their_targets_count_100_db(tmp_path):
    changes = {"metrics": METRICS, "niqe_parameters": str(NIQE)}
    settings = protocol(**changes)
    result = scoring.evaluate(repeat_pixels, Black(), settings, {"params": jnp.zeros(())})
    scores = result.scores["model"]["psnr"]
    np.testing.assert_array_equal(scores["a"], [100, 100, 100])
    assert result.mean("model", "psnr") == np.mean([100, scores["b"].mean()])
    found = only_json(result.json({"checkpoint": "", "config": {}}))
    assert found["scores"]["model"]["psnr"]["clips"]["a"] == 100
    assert "inf" not in result.csv() + result.table() + result.table_of_clips()


def test_frames_without_a_niqe_count_in_no_mean():
    settings = protocol(metrics=("psnr", "niqe"), niqe_parameters=str(NIQE))
    result = scoring.evaluate(repeat_pixels, Black(), settings, {"params": jnp.zeros(())})
    niqe = result.scores["model"]["niqe"]
    assert np.isnan(niqe["a"]).all() and result.mean("model", "niqe") == niqe["b"].mean()
    found = only_json(result.json({"checkpoint": "", "config": {}}))
    assert found["scores"]["model"]["niqe"]["clips"]["a"] is None
    assert "nan" not in result.csv() + result.table() + result.table_of_clips()
    assert "| none " in result.table_of_clips() and "model,a,0,100.0,\n" in result.csv()
    settings.clips = 1
    none = scoring.evaluate(repeat_pixels, Black(), settings, {"params": jnp.zeros(())})
    assert only_json(none.json({}))["scores"]["model"]["niqe"]["mean"] is None
