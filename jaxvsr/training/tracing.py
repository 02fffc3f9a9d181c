"""Traces of training steps for XProf."""

import contextlib
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxvsr.console import say
from jaxvsr.errors import InputError


def trace_steps(text: str) -> range:
    """Parses `train.profile_steps`.

    Args:
        text: "100:110", or "" for no trace.

    Returns:
        The numbers of finished steps at which a trace is open.

    Raises:
        InputError: the text is not of this form, or the range is empty.
    """
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if text and (not found or int(found[1]) >= int(found[2])):
        raise InputError(f'train.profile_steps={text!r} must be like "100:110", first:last')
    return range(*map(int, found.groups())) if found else range(0)


@contextlib.contextmanager
def traced(steps: range, workdir: pathlib.Path) -> Iterator[Callable[[int, Any], None]]:
    """Traces some steps of the training that runs inside this context.

    Args:
        steps: of `trace_steps`.
        workdir: of the run; the trace goes to plugins/profile/, where TensorBoard finds it.

    Yields:
        A function to call before each step and after the last one. It takes the number of
        finished steps, and arrays that the last of these steps returned.
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
