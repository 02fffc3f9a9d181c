"""Paired differences between stored scores."""

import json

import numpy as np
import pytest
from scored import Source, protocol, repeat_pixels

from benchmarks import compare
from jaxvsr.data.degradations import imresize
from jaxvsr.evaluation import scoring


def bicubic(variables, lq):
    return imresize(np.asarray(lq), 4) / np.float32(255), None


def save(folder, restore=repeat_pixels, step=7, **changes):
    """Scores a stand-in for a model as a run does; returns the folder."""
    result = scoring.evaluate(restore, Source(), protocol(**changes), {}, name="tiny")
    origin = {"checkpoint": f"step {step} of {folder}", "config": {"model": {"name": "tiny"}}}
    result.save(folder / "eval", f"made_up_val_{step:08d}", origin)
    return folder


def test_runs_are_compared_by_clip(tmp_path, capsys):
    a, b = save(tmp_path / "a"), save(tmp_path / "b", bicubic, 9)
    save(tmp_path / "b", step=3)  # an older one
    path = tmp_path / "out.json"
    compare.main([str(a), str(b), f"--json={path}"])
    text = capsys.readouterr().out
    assert text.startswith(f"made up val\nA: step 7 of {a}, tiny\nB: step 9 of {b}, tiny\n\n")
    assert "protocols differ" not in text and "3 of 3" in text
    (psnr, ssim) = json.loads(path.read_text())["made up val"]
    stored = [
        json.loads(next((x / "eval").glob(f"*{n}.json")).read_text()) for x, n in ((a, 7), (b, 9))
    ]
    first, second = (np.array(list(x["scores"]["tiny"]["psnr"]["clips"].values())) for x in stored)
    assert psnr["metric"] == "psnr" and ssim["metric"] == "ssim"
    np.testing.assert_allclose(psnr["means"], [first.mean(), second.mean()])
    np.testing.assert_allclose(psnr["difference"], (second - first).mean())
    low, high = psnr["interval"]
    # Three clips: the extreme samples draw one of them three times, 1 in 27 each.
    assert low == pytest.approx((second - first).min())
    assert low < psnr["difference"] < high == pytest.approx((second - first).max())


def test_where_protocols_differ_is_one_line(tmp_path, capsys):
    a, b = save(tmp_path / "a"), save(tmp_path / "b", crop=4, clips=1)
    compare.main([str(a), str(b / "eval" / "made_up_val_00000007.json")])
    text = capsys.readouterr().out
    (line,) = (line for line in text.splitlines() if line.startswith("the protocols"))
    assert line.startswith("the protocols differ: clips 0 and 1, crop 0 and 4, ")
    assert "| none " in text and "of 1" in text  # no interval of a single clip


def test_what_cannot_be_compared_is_one_line(tmp_path):
    a, other = save(tmp_path / "a"), save(tmp_path / "b", split="train")
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.json").write_text('{"scores": 1}')
    for b, message in (
        (tmp_path / "empty", "holds no scores: run jaxvsr eval"),
        (tmp_path / "none", "none cannot be read|there is no|none"),
        (tmp_path / "wrong.json", "holds no scores of jaxvsr eval"),
        (other, "no data set was scored in both: made up val in .*; made up train in"),
    ):
        with pytest.raises(SystemExit, match=message) as error:
            compare.main([str(a), str(b)])
        assert "\n" not in str(error.value)


def test_an_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        low, high = compare.bootstrap(rng.normal(0.1, 1, 40), seed)
        covered += low <= 0.1 <= high
    assert 0.88 < covered / 100 < 0.99
