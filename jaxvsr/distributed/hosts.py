"""Several processes on one or more hosts: connecting, comparing settings, ending."""

import collections
import contextlib
import json
import os
import signal
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

# Seconds without a heartbeat after which a process counts as lost and the others end.
HEARTBEAT = 30


@contextlib.contextmanager
def connected(given: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[None]:
    """Connects this process with the others of a run, if the flags are set.

    Args:
        given: name -> value of the flags of `cli.define_hosts`.
        settings: that must be the same in all processes: name -> JSON value.

    Raises:
        InputError: as `connect` and `check_same`. Any other error inside ends the process, since
            JAX would wait for the others.
    """
    place = given["coordinator"], given["processes"], given["process"]
    if not given["distributed"]:
        if place == (None, None, None):
            yield
            return
        if None in place:
            raise InputError("--coordinator, --processes and --process must be given together")
    connect(*place, timeout=given["connect_timeout"])
    try:
        check_same(settings)
        yield
    except Exception as error:
        leave(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(128 + signal.SIGINT)  # without waiting for the others


def connect(
    coordinator: str | None, processes: int | None, process: int | None, timeout: int
) -> None:
    """Connects this process with the others.

    Args:
        coordinator: host:port of process 0; None: from the scheduler's environment, as the other
            arguments.
        processes: number of processes.
        process: index of this one.
        timeout: seconds after which this process ends with a message if the others are missing.

    Raises:
        InputError: the arguments or the environment are incomplete or wrong.
    """
    if coordinator and ":" not in coordinator:
        raise InputError(f"--coordinator={coordinator} must be host:port")
    where = f"process {process} of {processes}" if coordinator else "this process"
    at = f" at {coordinator}" if coordinator else ""
    with _patience(
        timeout,
        f"{where} has not found the others within {timeout} s: either the coordinator, process "
        f"0{at}, cannot be reached (is it running, is the address right, is the port open?) or "
        "not all of them have started. If hosts start further apart, raise --connect_timeout",
    ):
        try:
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                initialization_timeout=2 * timeout,  # JAX aborts then, without an explanation
                heartbeat_timeout_seconds=HEARTBEAT,
            )
        except (ValueError, RuntimeError, IndexError) as error:
            source = (
                f"--coordinator={coordinator}" if coordinator else "the scheduler's environment"
            )
            raise InputError(f"{where} cannot be connected by {source}: {error}") from error


@contextlib.contextmanager
def _patience(seconds: float, message: str) -> Iterator[None]:
    """Ends the process with a message unless the code inside ends in time."""
    timer = threading.Timer(seconds, _end, [message])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def check_same(settings: Mapping[str, Any]) -> None:
    """Compares the settings of all processes; all must call this.

    Args:
        settings: name -> JSON value.

    Raises:
        InputError: the settings differ; on every process, with their names and values.
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
            + "\nStart all of them with the same command."
        )


def _by_value(values: list[Any]) -> str:
    """Lists the processes that have each value."""
    having = collections.defaultdict(list)
    for process, value in enumerate(values):
        having[repr(value)].append(process)
    return "; ".join(
        f"{value} in process {', '.join(map(str, some[:4]))}{' and others' if some[4:] else ''}"
        for value, some in having.items()
    )


def leave(error: Exception) -> NoReturn:
    """Ends one of several processes at once, with a message.

    Without it JAX would wait for the other processes to end, and they for this one.
    """
    message = str(error)
    if not isinstance(error, InputError | FloatingPointError):
        traceback.print_exception(error)
        message = (
            f"process {jax.process_index()} of {jax.process_count()} failed: "
            f"{(message or repr(error)).splitlines()[0]}. If another process has ended, its output "
            "has the reason. Start all hosts, or fewer, again to resume from the last checkpoint"
        )
    if jax.process_index() == 0:
        time.sleep(1)  # lets the others print their errors before they lose process 0
    _end(message)


def _end(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(1)
