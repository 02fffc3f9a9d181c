"""Progress and speed of a training; metrics are read without waiting for the devices."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxvsr.console import clock, say

WAITING = 0.2  # fraction of time spent waiting for data that is worth a warning


class Progress:
    """Collects the metrics of steps and raises if they are not finite.

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
    ) -> None:
        """Starts before the first step of this process.

        Args:
            done: number of steps of earlier processes.
            steps: number of steps in total.
            names: of the entries of the metric "finite".
            step_flops: FLOPs of a step.
            peak_flops: FLOP/s of all devices together.
        """
        self._done, self._steps, self._names = done, steps, names
        self._step_flops, self._peak_flops = step_flops, peak_flops
        self._unread: tuple[int, Mapping[str, jax.Array]] | None = None
        self._interval: list[dict[str, Any]] = []
        # The clock starts after the first step, which includes compilation.
        self._clock: tuple[int, float] | None = None
        self._begin = time.perf_counter()
        self._waited = dict.fromkeys(("data", "checkpoint"), 0.0)
        self._warned = False

    def add(self, metrics: Mapping[str, jax.Array]) -> None:
        """Takes the metrics of the next step and reads those of the step before.

        Raises:
            FloatingPointError: the loss, a gradient or the state of the step before is not finite.
        """
        self.read()
        self._done += 1
        self._unread = self._done, metrics
        if self._clock is None:
            self.read()
            self._clock = self._done, time.perf_counter()
            self._waited = dict.fromkeys(self._waited, 0.0)
            say(f"compiled the step in {self._clock[1] - self._begin:.0f} s")

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
            The means; "steps_per_second"; "mfu", model FLOP/s over the peak of the devices; and the
            fractions of time spent waiting: "time/data", "time/checkpoint", "time/compute".
        """
        self.read()
        keys = self._interval[0].keys()
        means = {key: float(np.mean([m[key] for m in self._interval])) for key in keys}
        self._interval = []
        step, since = self._clock or (self._done, 0.0)
        now = time.perf_counter()
        if self._done > step:
            rate = (self._done - step) / (now - since)
            means["steps_per_second"] = rate
            means["mfu"] = rate * self._step_flops / self._peak_flops
            shares = {what: waited / (now - since) for what, waited in self._waited.items()}
            shares["compute"] = 1 - sum(shares.values())
            means |= {f"time/{what}": share for what, share in shares.items()}
            self._clock = self._done, now
            self._waited = dict.fromkeys(self._waited, 0.0)
            if shares["data"] > WAITING and not self._warned:
                self._warned = True
                say(
                    f"warning: the devices wait for data {shares['data']:.0%} of the time: raise "
                    f"data.workers, the reading processes ({os.cpu_count()} cores here), or put "
                    "the data set on a faster disk"
                )
        return means

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Measures the time spent waiting for "data" or a "checkpoint"."""
        begin = time.perf_counter()
        yield
        self._waited[what] += time.perf_counter() - begin

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the clock."""
        begin = time.perf_counter()
        yield
        if self._clock:
            self._clock = self._clock[0], self._clock[1] + time.perf_counter() - begin

    def line(self, values: Mapping[str, float]) -> str:
        """Formats a report for the terminal."""
        parts = [f"step {self._done}/{self._steps}", f"loss {values['loss']:.5f}"]
        parts.append(f"psnr {values['psnr']:.2f}")
        if values["keep_ratio"] < 1:
            parts.append(f"keep {values['keep_ratio']:.0%}")
        if values.get("time/data", 0) > WAITING:
            parts.append(f"waiting for data {values['time/data']:.0%}")
        rate = values.get("steps_per_second")
        if rate:
            parts.append(f"{rate:.2f} steps/s" if rate >= 1 else f"{1 / rate:.1f} s/step")
            parts.append(f"{clock((self._steps - self._done) / rate)} left")
        return "  ".join(parts)
