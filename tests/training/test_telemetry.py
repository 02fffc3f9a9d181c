"""Progress of a training: what is not finite, time waited for, time left."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr.training.telemetry import Progress


def test_progress_names_what_is_not_finite():
    steps = Progress(4, 10, ["loss", "a/kernel", "b/bias"], 1.0, 1.0)
    good = {"loss": jnp.float32(1), "psnr": jnp.float32(20), "keep_ratio": jnp.float32(1)}
    steps.add(good | {"finite": jnp.array([True, True, True])})
    steps.add(good | {"finite": jnp.array([True, False, True])})
    with pytest.raises(FloatingPointError, match=r"step 6: not finite in a/kernel \(1 of 3"):
        steps.read()


def test_progress_says_what_was_waited_for(monkeypatch, capsys):
    now = 0.0

    def take(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr("time.perf_counter", lambda: now)
    metrics = {"loss": jnp.float32(1), "psnr": jnp.float32(20), "keep_ratio": jnp.float32(1)}
    metrics["finite"] = jnp.array([True])
    run = Progress(0, 10, ["loss"], 1.0, 1.0)
    for _ in range(3):
        with run.waiting("data"):
            take(0.3)
        take(0.5)
        run.add(metrics)
        with run.waiting("checkpoint"):
            take(0.2)
        with run.paused():
            take(7)
    report = run.report()  # of what came after the first step
    shares = [report[f"time/{what}"] for what in ("data", "checkpoint", "compute")]
    np.testing.assert_allclose(shares, np.divide([0.6, 0.6, 1.0], 2.2))
    assert "wait for data 27% of the time: raise data.workers" in capsys.readouterr().out
    assert "waiting for data 27%" in run.line(report)
    run.add(metrics)
    take(1)
    assert run.report()["time/compute"] == 1
    assert not capsys.readouterr().out
