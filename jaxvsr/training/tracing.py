"""Traces of training steps for XProf: what each device and the host did, and when."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxvsr.console import say


@contextlib.contextmanager
def traced(steps: range, workdir: pathlib.Path) -> Iterator[Callable[[int, Any], None]]:
    """Inside, what is yielded is to be called before each step, and after the last one.

    Args:
        steps: of `config.trace_steps`.
        workdir: of the run; plugins/profile/ in it, where TensorBoard looks, receives the trace.

    Yields:
        A function of the number of steps done and of arrays that the last of them gives.
    """
    tracing = False

    def at(done: int, arrays: Any) -> None:
        nonlocal tracing
        if done in steps and not tracing:
            jax.profiler.start_trace(workdir)
            tracing = True
        elif done not in steps and tracing:
            jax.block_until_ready(arrays)
            jax.profiler.stop_trace()
            tracing = False
            say(f"trace: {workdir}/plugins/profile (pip install xprof; xprof --logdir={workdir})")

    try:
        yield at
    finally:
        if tracing:
            jax.profiler.stop_trace()
