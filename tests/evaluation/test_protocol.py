"""Warnings before an evaluation."""

from scored import Source

from jaxvsr.evaluation.protocol import warn_of_other_degradation


def test_another_degradation_is_warned_of(capsys):
    warn_of_other_degradation("bicubic", Source(), "vid4")
    assert not capsys.readouterr().out
    warn_of_other_degradation("bd", Source(), "vid4")
    said = capsys.readouterr().out
    assert "trained on inputs degraded by 'bd', vid4 is degraded by 'bicubic'" in said
