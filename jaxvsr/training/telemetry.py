"""Progress and speed of a training; metrics are read without waiting for the devices."""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxvsr.console import clock, say

WAITING = 0.2  # fraction of time spent waiting for data that is worth a warning
# Kinds of time; a report compares the first three.
KINDS = ("steps", "data", "checkpoints", "evaluation", "compilation", "restarts")
TOTAL = "time/total/"  # prefix of the seconds of a run by kind


class Progress:
    """Collects the metrics of steps and raises if they are not finite; accounts for the time.

    Metrics are read one step late: while the host reads those of a step, the devices compute the
    next one.
    """

    def __init__(
        self,
        done: int,
        steps: int,
        names: Sequence[str],
        step_flops: float,
        peak_flops: float,
        begin: float,
        earlier: Mapping[str, float] | None = None,
    ) -> None:
        """Starts before the first step of this process.

        Args:
            done: number of steps of earlier processes.
            steps: number of steps in total.
            names: of the entries of the metric "finite".
            step_flops: FLOPs of a step.
            peak_flops: FLOP/s of all devices together.
            begin: `time.perf_counter()` at which the training began in this process.
            earlier: of `earlier_seconds`.
        """
        self._done, self._steps, self._names = done, steps, names
        self._step_flops, self._peak_flops = step_flops, peak_flops
        self._unread: tuple[int, Mapping[str, jax.Array]] | None = None
        self._interval: list[dict[str, Any]] = []
        self._seconds = dict.fromkeys(KINDS, 0.0) | dict(earlier or {})
        self._mark = begin  # time up to which `_seconds` accounts
        self._charge("restarts" if done else "compilation")
        # Step and times at the last report; None before the first step, which includes compilation.
        self._reported: tuple[int, dict[str, float]] | None = None
        self._warned = False

    def add(self, metrics: Mapping[str, jax.Array]) -> None:
        """Takes the metrics of the next step and reads those of the step before.

        Raises:
            FloatingPointError: the loss, a gradient or the state of the step before is not finite.
        """
        self.read()
        self._done += 1
        self._unread = self._done, metrics
        if self._reported is None:
            self.read()
            begin = self._mark
            self._charge("compilation")
            self._reported = self._done, dict(self._seconds)
            say(f"compiled the step in {self._mark - begin:.0f} s")

    def read(self) -> None:
        """Reads the metrics of the last step, waiting for the devices.

        Raises:
            FloatingPointError: as `add`.
        """
        if self._unread is None:
            return
        step, metrics = self._unread[0], jax.device_get(self._unread[1])
        self._unread = None
        finite = metrics.pop("finite")
        if not finite.all():
            names = [name for name, good in zip(self._names, finite, strict=True) if not good]
            some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if names[8:] else "")
            raise FloatingPointError(
                f"step {step}: not finite in {some} ({len(names)} of {len(finite)} tensors, loss "
                f"{metrics['loss']}); all steps before it were. Lower optim.lr, or set "
                "optim.clip_norm or model.dtype=float32, and run the command again: it resumes "
                "from the last checkpoint, which is finite"
            )
        self._interval.append(metrics)

    def report(self) -> dict[str, float]:
        """Averages the metrics since the last report.

        Returns:
            The means, "train/<metric>"; "time/steps_per_second"; "time/mfu", model FLOP/s over the
            peak of the devices; the fractions of the time between evaluations: "time/steps",
            "time/data", "time/checkpoints"; and what `totals` returns.
        """
        self.read()
        keys = self._interval[0].keys()
        means = {f"train/{key}": float(np.mean([m[key] for m in self._interval])) for key in keys}
        self._interval = []
        totals = self.totals()
        step, before = self._reported or (self._done, self._seconds)
        spent = {kind: self._seconds[kind] - before[kind] for kind in KINDS[:3]}
        whole = sum(spent.values())
        if self._done > step:
            rate = (self._done - step) / whole
            means["time/steps_per_second"] = rate
            means["time/mfu"] = rate * self._step_flops / self._peak_flops
            means |= {f"time/{kind}": seconds / whole for kind, seconds in spent.items()}
            self._reported = self._done, dict(self._seconds)
            if spent["data"] > WAITING * whole and not self._warned:
                self._warned = True
                say(
                    f"warning: the devices wait for data {spent['data'] / whole:.0%} of the time: "
                    f"raise data.workers, the reading processes ({os.cpu_count()} cores here), or "
                    "put the data set on a faster disk"
                )
        return means | totals

    @contextlib.contextmanager
    def spent(self, kind: str) -> Iterator[None]:
        """Accounts the time of the code inside to "data", "checkpoints" or "evaluation"."""
        self._charge(self._otherwise)
        yield
        self._charge(kind)

    @property
    def _otherwise(self) -> str:
        """What time is spent on outside of `spent`."""
        return "steps" if self._reported else "compilation"

    def _charge(self, kind: str) -> None:
        """Accounts the time since the last call to a kind."""
        now = time.perf_counter()
        self._seconds[kind] += now - self._mark
        self._mark = now

    def totals(self) -> dict[str, float]:
        """Returns the seconds of the run, earlier processes included: "time/total/<kind>"."""
        self._charge(self._otherwise)
        return {TOTAL + kind: seconds for kind, seconds in self._seconds.items()}

    def summary(self) -> str:
        """Formats the fractions of the run's time by kind."""
        seconds = self.totals().values()
        whole = sum(seconds) or 1.0
        parts = [f"{kind} {x / whole:.0%}" for kind, x in zip(KINDS, seconds, strict=True)]
        return f"time {clock(whole)}: {', '.join(parts)}"

    def line(self, values: Mapping[str, float]) -> str:
        """Formats a report for the terminal."""
        parts = [f"step {self._done}/{self._steps}", f"loss {values['train/loss']:.5f}"]
        parts.append(f"psnr {values['train/psnr']:.2f}")
        if values["train/keep_ratio"] < 1:
            parts.append(f"keep {values['train/keep_ratio']:.0%}")
        if values.get("time/data", 0) > WAITING:
            parts.append(f"waiting for data {values['time/data']:.0%}")
        rate = values.get("time/steps_per_second")
        if rate:
            parts.append(f"{rate:.2f} steps/s" if rate >= 1 else f"{1 / rate:.1f} s/step")
            parts.append(f"{clock((self._steps - self._done) / rate)} left")
        return "  ".join(parts)


def earlier_seconds(lines: Iterable[Mapping[str, Any]], step: int) -> dict[str, float]:
    """Adds up the time of earlier processes of a run by kind.

    Time spent on steps after the checkpoint, which are lost, counts as "restarts". Time after the
    last report of a process is unknown and not counted.

    Args:
        lines: of metrics.jsonl, in order.
        step: of the checkpoint to resume from.

    Returns:
        Seconds by kind.
    """
    kept, last = dict.fromkeys(KINDS, 0.0), 0.0
    for line in lines:
        if not all(isinstance(line.get(TOTAL + kind), int | float) for kind in KINDS):
            continue
        found = {kind: float(line[TOTAL + kind]) for kind in KINDS}
        last = sum(found.values())
        if line["step"] <= step:
            kept = found
    return kept | {"restarts": kept["restarts"] + last - sum(kept.values())}
