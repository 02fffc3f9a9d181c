"""Names of degradations, warnings before an evaluation, and the table of metrics."""

import jax.numpy as jnp
import ml_collections
import pytest
from scored import Source, protocol, repeat_pixels

from jaxvsr.evaluation import scoring
from jaxvsr.evaluation.protocol import (
    METRICS,
    Metric,
    best_score,
    degradation_of,
    warn_of_other_degradation,
)


def test_another_degradation_is_warned_of(capsys):
    warn_of_other_degradation("bicubic", "bicubic", "vid4")
    assert not capsys.readouterr().out
    warn_of_other_degradation("bd", "bicubic", "vid4")
    said = capsys.readouterr().out
    assert "trained on inputs degraded by 'bd', vid4 is degraded by 'bicubic'" in said


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        ("", "bicubic"),
        ("h264(crf=25)", "bicubic, h264(crf=25)"),
        ("compressed(crf=(20, 30))", "compressed(crf=(20, 30))"),
        ("duf", "duf"),
        ("bd, h264(crf=25)", "bd, h264(crf=25)"),
    ],
)
def test_a_degradation_replaces_or_follows_that_of_the_data_set(chosen, name):
    assert degradation_of(Source(), ml_collections.ConfigDict({"degradation": chosen})) == name


def test_the_best_checkpoint_has_the_best_score_of_the_metric_that_is_named():
    means = {"psnr": 30.0, "lpips": 0.25}
    for best, score in (("psnr", 30.0), ("lpips", -0.25)):
        assert best_score(ml_collections.ConfigDict({"best": best}), means) == score


def test_a_metric_is_one_line_of_the_table(monkeypatch):
    def darkness(sr, gt):
        return (gt / 255.0 - sr / 255.0).mean((1, 2, 3))

    monkeypatch.setitem(METRICS, "darkness", Metric("darkness", lambda p: darkness, lower=True))
    settings = protocol(metrics=("psnr", "darkness"), clips=1)
    result = scoring.evaluate(repeat_pixels, Source(), settings, {"params": jnp.zeros(())})
    assert " darkness ↓ " in result.table() and ",psnr,darkness\n" in result.csv()
    assert '"darkness"' in result.json({})
