"""Locks between processes."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from jaxvsr.errors import InputError
from jaxvsr.locks import locked

HOLD = """
import pathlib, sys, time
from jaxvsr.locks import locked
with locked(pathlib.Path(sys.argv[1]), "training"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_process_is_told_of_the_first_which_a_kill_releases(tmp_path):
    path = tmp_path / "run" / ".lock"
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[1])}
    command = [sys.executable, "-c", HOLD, str(path)]
    holder = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(InputError, match=rf"another process \({holder.pid} on .*\) is training in"),
        locked(path, "training in runs/demo"),
    ):
        pass
    assert path.exists()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with locked(path, "training in runs/demo"):
        assert path.read_text().startswith(f"{os.getpid()} on ")
    assert not path.exists()


def test_a_lock_that_was_removed_by_its_holder_is_made_anew(tmp_path):
    path = tmp_path / ".lock"
    with locked(path, "a"):
        path.unlink()  # as a holder does at the end, while the next one waits to lock it
        with locked(path, "b"), pytest.raises(InputError), locked(path, "c"):
            pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="flock is of POSIX")
def test_a_file_system_without_locks_is_used_without(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with locked(tmp_path / ".lock", "a"):
        pass
    assert not list(tmp_path.iterdir())
