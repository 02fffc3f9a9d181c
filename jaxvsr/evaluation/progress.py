"""Progress of scoring, within clips too, and the time left."""

import time
from collections.abc import Callable, Sequence

from jaxvsr.console import clock
from jaxvsr.data.sources import Clip


class ClipProgress:
    """Follows clips that are restored and scored one after the other."""

    def __init__(self, clips: Sequence[Clip], excluded: Callable[[], float]) -> None:
        """Starts the clock.

        Args:
            clips: to be scored, in order; one takes a time proportional to its pixels.
            excluded: seconds so far that do not count, such as those of compiling.
        """
        self._clips = clips
        self._work = [clip.length * clip.height * clip.width for clip in clips]
        self._finished = 0  # clips
        self._restored = 0.0  # fraction of the current clip
        self._excluded = excluded
        self._begin = self._changed = self._now()

    def _now(self) -> float:
        return time.perf_counter() - self._excluded()

    def restored(self, fraction: float) -> None:
        """Notes that a fraction of the current clip is restored."""
        self._restored, self._changed = fraction, self._now()

    def finished(self) -> None:
        """Notes that the current clip is scored."""
        self._finished += 1
        self.restored(0.0)

    def line(self) -> str:
        """Says which clip is restored, how far, and the time left, if it can be estimated."""
        i = self._finished
        if i == len(self._clips):  # a host may have none
            return f"scored {i} clips"
        parts = [f"scoring clip {i + 1}/{len(self._clips)}, {self._clips[i].name}"]
        if self._restored:
            parts.append(f"{self._restored:.0%} restored")
        done = sum(self._work[:i]) + self._restored * self._work[i]
        since = self._now() - self._changed
        if done:
            left = (sum(self._work) - done) * (self._changed - self._begin) / done - since
            parts.append(f"{clock(max(left, 0))} left")
        else:
            parts.append(f"{clock(since)} so far")
        return "  ".join(parts)
