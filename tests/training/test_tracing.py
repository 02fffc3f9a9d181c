"""Traces of training steps."""

import jax.numpy as jnp
import pytest

from jaxvsr.errors import InputError
from jaxvsr.training.tracing import trace_steps, traced


def test_steps_are_a_range():
    assert trace_steps("100:110") == range(100, 110)
    assert not trace_steps("")


@pytest.mark.parametrize("text", ["100", "9:9", "9:3", "a:b", "1:2:3", "-1:3"])
def test_other_texts_are_refused(text):
    with pytest.raises(InputError, match=f"train.profile_steps={text!r} must be like"):
        trace_steps(text)


def test_a_trace_is_open_during_its_steps(tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: calls.append("stop"))
    with traced(range(2, 4), tmp_path) as at:
        for done in range(6):
            at(done, jnp.ones(1))
            calls.append(done)
    assert calls == [0, 1, "start", 2, 3, "stop", 4, 5]
    assert f"trace: {tmp_path}/plugins/profile" in capsys.readouterr().out


def test_a_trace_is_closed_if_the_training_ends_early(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: calls.append("stop"))
    with pytest.raises(KeyboardInterrupt), traced(range(9), tmp_path) as at:
        at(0, None)
        raise KeyboardInterrupt
    assert calls == ["start", "stop"]
