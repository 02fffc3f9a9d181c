"""Names of degradations, and warnings before an evaluation."""

import ml_collections
import pytest
from scored import Source

from jaxvsr.evaluation.protocol import degradation_of, warn_of_other_degradation


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
