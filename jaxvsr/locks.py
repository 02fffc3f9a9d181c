"""Locks between processes. The system releases them when their holder ends, however it ends."""

import contextlib
import os
import pathlib
import socket
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    import msvcrt

from jaxvsr.errors import InputError


@contextlib.contextmanager
def locked(path: pathlib.Path, task: str) -> Iterator[None]:
    """Holds a lock file, which is removed afterwards.

    Args:
        path: of the file. Its folder is created where it is missing, with its parents.
        task: what needs the lock, for the error: "training in runs/demo".

    Raises:
        InputError: another process holds the lock; the message names it.
        OSError: the file cannot be created.
    """
    descriptor = _acquire(path, task)
    try:
        yield
    finally:
        try:
            path.unlink()
        except OSError:  # Windows removes no open file
            pass
        finally:
            os.close(descriptor)


def _acquire(path: pathlib.Path, task: str) -> int:
    """Returns the descriptor of the locked file."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the last holder has just removed the folder
            continue
        try:
            free = _lock(descriptor)
            holder = "" if free else os.read(descriptor, 200).decode(errors="replace").strip()
            if free and _is_at(descriptor, path):
                with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"{os.getpid()} on {socket.gethostname()}".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not free:
            raise InputError(
                f"another process{f' ({holder})' if holder else ''} is {task}: wait for its end, "
                "or stop it"
            )


def _lock(descriptor: int) -> bool:
    """Locks a file unless another process has; where the file system has no locks, goes on."""
    if fcntl is None:
        os.lseek(descriptor, 2**20, os.SEEK_SET)  # other processes cannot read locked bytes
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True


def _is_at(descriptor: int, path: pathlib.Path) -> bool:
    """Whether a path still names an open file, and not a newer one."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
