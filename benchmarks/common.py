"""Helpers that benchmarks share."""

import argparse
import os
import pathlib
import platform
import signal
import time
import traceback
from collections.abc import Callable

import jax


def machine() -> str:
    """Device, processor, cores and versions, for the foot of a table of results."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    processor = f"{len(names)} cores of {names[0]}" if names else platform.processor()
    device = "" if jax.default_backend() == "cpu" else f"{jax.devices()[0].device_kind}; "
    return f"{device}{processor}; Python {platform.python_version()}, JAX {jax.__version__}"


def make_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser that shows a benchmark's docstring, examples included, as its help."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def forked(
    function: Callable[[], object],
    log: pathlib.Path,
    is_over: Callable[[int], bool] = lambda process: False,
) -> int:
    """Runs a function in a forked process.

    Args:
        function: an integer that it returns is the exit code.
        log: receives the output.
        is_over: says of the running process, by its id, whether to kill it.

    Returns:
        The exit code; -SIGKILL if the process was killed.
    """
    process = os.fork()
    if not process:
        code = 1
        try:
            with log.open("ab") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            result = function()
            code = result if isinstance(result, int) else 0
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    done = 0
    while not done and not is_over(process):
        time.sleep(0.002)
        done, status = os.waitpid(process, os.WNOHANG)
    if not done:
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)
