"""Small files: they appear as a whole or not at all, and are checked before they are read."""

import contextlib
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from jaxvsr.errors import InputError


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file. An old file stays until all of the new one is on the disk.

    Args:
        path: of the file, in a folder that exists.
        text: its content.

    Raises:
        OSError: the file cannot be written; nothing is left beside the old one.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Replaces a file once the code inside has written all of its successor.

    Args:
        path: of the file, in a folder that exists.

    Yields:
        Where to write: a hidden file beside it with the same suffix.

    Raises:
        OSError: the file cannot be written; nothing is left beside the old one.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        with naming(path):
            yield part
            sync_file(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
    """Lets errors of the system name a file, since those of writing do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def digest(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: pathlib.Path) -> None:
    """Waits until the content of a file is on the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_text(value: Any, indent: int | None = None) -> str:
    """Formats a value as JSON; NaN and infinity, which JSON lacks, become null."""

    def valid(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, dict):
            return {key: valid(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [valid(item) for item in value]
        return value

    return json.dumps(valid(value), indent=indent, allow_nan=False)


def sync_folder(path: pathlib.Path) -> None:
    """Waits until the names in a folder are on the disk; where a system cannot, goes on."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # folders cannot be opened on Windows
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse it
        pass
    finally:
        os.close(descriptor)


def check_regular(path: pathlib.Path) -> None:
    """Checks that reading a path cannot wait for ever.

    Raises:
        InputError: it is a pipe, a socket or a device.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is a pipe, a socket or a device, not a file")


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        InputError: the file is missing, cannot be read, or holds anything else.
    """
    check_regular(path)
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: it must hold a JSON object")
    return content
