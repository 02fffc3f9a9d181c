"""Progress of a training: what is not finite, where the time goes, time left."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr.training.telemetry import KINDS, Progress, earlier_seconds


def test_progress_names_what_is_not_finite():
    steps = Progress(4, 10, ["loss", "a/kernel", "b/bias"], 1.0, 1.0, 0.0)
    good = {"loss": jnp.float32(1), "psnr": jnp.float32(20), "keep_ratio": jnp.float32(1)}
    steps.add(good | {"finite": jnp.array([True, True, True])})
    steps.add(good | {"finite": jnp.array([True, False, True])})
    with pytest.raises(FloatingPointError, match=r"step 6: not finite in a/kernel \(1 of 3"):
        steps.read()


METRICS = {"loss": jnp.float32(1), "psnr": jnp.float32(20), "keep_ratio": jnp.float32(1)}
METRICS["finite"] = jnp.array([True])


@pytest.fixture
def take(monkeypatch):
    """A function that lets seconds pass."""
    now = 0.0

    def take(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr("time.perf_counter", lambda: now)
    return take


def do_steps(run, count, take):
    for _ in range(count):
        with run.spent("data"):
            take(0.3)
        take(0.5)
        run.add(METRICS)
        with run.spent("checkpoints"):
            take(0.2)
        with run.spent("evaluation"):
            take(7)


def test_progress_says_what_was_waited_for(take, capsys):
    run = Progress(0, 10, ["loss"], 1.0, 1.0, 0.0)
    do_steps(run, 3, take)
    report = run.report()  # of what came after the first step
    fractions = [report[f"time/{kind}"] for kind in ("data", "checkpoints", "steps")]
    np.testing.assert_allclose(fractions, np.divide([0.6, 0.6, 1.0], 2.2))
    assert report["time/steps_per_second"] == pytest.approx(2 / 2.2)
    assert "wait for data 27% of the time: raise data.workers" in capsys.readouterr().out
    assert "waiting for data 27%" in run.line(report)
    run.add(METRICS)
    take(1)
    assert run.report()["time/steps"] == 1
    assert not capsys.readouterr().out


def test_all_time_of_a_run_is_accounted_for_over_restarts(take):
    take(4)  # to load libraries and data sets
    run = Progress(0, 10, ["loss"], 1.0, 1.0, 0.0)
    do_steps(run, 2, take)
    first = {"step": 2, **run.report()}
    assert [first[f"time/total/{kind}"] for kind in KINDS] == pytest.approx(
        [0.5, 0.6, 0.4, 14, 4.5, 0]
    )
    do_steps(run, 2, take)
    second = {"step": 4, **run.report()}

    lines = [first, second, {"step": 4, "eval/x": 1.0}, {"step": 5, "time/total/steps": None}]
    earlier = earlier_seconds(lines, 2)  # killed after step 4, with a checkpoint of step 2
    assert earlier["restarts"] == pytest.approx(2 * (0.3 + 0.5 + 0.2 + 7))
    take(3)
    again = Progress(2, 10, ["loss"], 1.0, 1.0, 4 + 4 * 8.0, earlier)
    take(2)
    again.add(METRICS)
    totals = again.totals()
    assert totals["time/total/restarts"] == pytest.approx(16 + 3)
    assert totals["time/total/compilation"] == pytest.approx(4.5 + 2)
    assert sum(totals.values()) == pytest.approx(4 + 4 * 8 + 3 + 2)
    assert again.summary() == (
        "time 0:00:41: steps 1%, data 1%, checkpoints 1%, evaluation 34%, compilation 16%, "
        "restarts 46%"
    )


def test_a_run_of_an_older_version_has_no_earlier_times():
    assert set(earlier_seconds([{"step": 1, "loss": 2.0}], 1).values()) == {0}
