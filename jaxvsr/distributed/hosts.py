"""Several processes, mostly on several hosts: how they find each other, agree, and end."""

import collections
import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxvsr.errors import InputError

# Seconds without a sign of life after which a process counts as lost, and the others end.
HEARTBEAT = 30


@contextlib.contextmanager
def connected(given: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[None]:
    """Inside, this is one of several processes, if the command line says so; an error ends it.

    Args:
        given: name -> value of the flags of `cli.define_hosts`.
        settings: what all processes have to share: name -> what JSON can hold.

    Raises:
        InputError: as `connect` and `check_same`.
    """
    place = given["coordinator"], given["processes"], given["process"]
    if not given["distributed"]:
        if place == (None, None, None):
            yield
            return
        if None in place:
            raise InputError("--coordinator, --processes and --process belong together")
    connect(*place, timeout=given["connect_timeout"])
    try:
        check_same(settings)
        yield
    except Exception as error:
        leave(error)


def connect(
    coordinator: str | None, processes: int | None, process: int | None, timeout: int
) -> None:
    """Connects this process with the others.

    Args:
        coordinator: host:port of process 0; None: what the scheduler's environment tells, and so
            for the others.
        processes: how many there are.
        process: the number of this one.
        timeout: seconds after which it ends if the others are not found; with a message.

    Raises:
        InputError: what is given or what the environment tells is not enough, or cannot be.
    """
    if coordinator and ":" not in coordinator:
        raise InputError(f"--coordinator={coordinator} must be host:port")
    where = f"process {process} of {processes}" if coordinator else "this process"
    at = f" at {coordinator}" if coordinator else ""
    with _patience(
        timeout,
        f"{where} has not found the others within {timeout} s: either the coordinator, process "
        f"0{at}, cannot be reached (is it running, is the address right, is the port open?) or "
        "not all of them have started. Where hosts start further apart raise --connect_timeout",
    ):
        try:
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                initialization_timeout=2 * timeout,  # whose end is an abort, without an explanation
                heartbeat_timeout_seconds=HEARTBEAT,
            )
        except (ValueError, RuntimeError, IndexError) as error:
            told = f"--coordinator={coordinator}" if coordinator else "the scheduler's environment"
            raise InputError(f"{where} cannot be connected by {told}: {error}") from error


@contextlib.contextmanager
def _patience(seconds: float, message: str) -> Iterator[None]:
    """Ends the process with a message unless what is inside has ended in time."""
    timer = threading.Timer(seconds, _end, [message])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def check_same(settings: Mapping[str, Any]) -> None:
    """Compares the settings of all processes, which all have to call this.

    Args:
        settings: name -> what JSON can hold.

    Raises:
        InputError: they differ; on every process, with the settings that do.
    """
    text = np.frombuffer(json.dumps(dict(settings)).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(text)))
    padded = np.pad(text, (0, lengths.max() - len(text)))
    texts = multihost_utils.process_allgather(padded)
    everyones = [
        json.loads(bytes(row[:length])) for row, length in zip(texts, lengths, strict=True)
    ]
    different = [
        f"  {name}: {_by_value([each.get(name) for each in everyones])}"
        for name in dict.fromkeys(name for each in everyones for name in each)
        if any(each.get(name) != settings.get(name) for each in everyones)
    ]
    if different:
        raise InputError(
            "the processes were started with different settings:\n"
            + "\n".join(different)
            + "\nStart all of them by the same command."
        )


def _by_value(values: list[Any]) -> str:
    """Which processes have which value, in words."""
    having = collections.defaultdict(list)
    for process, value in enumerate(values):
        having[repr(value)].append(process)
    return "; ".join(
        f"{value} in process {', '.join(map(str, some[:4]))}{' and others' if some[4:] else ''}"
        for value, some in having.items()
    )


def leave(error: Exception) -> NoReturn:
    """Ends one of several processes at once, with what went wrong: JAX would let it wait for the
    others to end, which wait for it."""
    message = str(error)
    if not isinstance(error, InputError | FloatingPointError):
        traceback.print_exception(error)
        message = (
            f"process {jax.process_index()} of {jax.process_count()} cannot go on: "
            f"{(message or repr(error)).splitlines()[0]}. If another one has ended, its own output "
            "says why; the same command on all of them, or on fewer, goes on from the last "
            "checkpoint"
        )
    if jax.process_index() == 0:
        time.sleep(1)  # without it, the others end before they have said why
    _end(message)


def _end(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(1)
