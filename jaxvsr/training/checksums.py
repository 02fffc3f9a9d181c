"""Checksums of a checkpoint's files: written before it appears, verified before it is read."""

import json
import pathlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from jaxvsr.errors import InputError
from jaxvsr.files import digest, write_text

NAME = "checksums.json"
THREADS = 4


def write_checksums(folder: pathlib.Path) -> None:
    """Writes the checksums of all files in the items of a checkpoint.

    Files beside the items are Orbax's notes, which change until the checkpoint is complete and are
    not read.

    Args:
        folder: of the checkpoint.
    """
    files = sorted(path for path in folder.glob("*/**/*") if path.is_file())
    with ThreadPoolExecutor(THREADS) as pool:
        sums = dict(zip(files, pool.map(_checksum, files), strict=True))
    names = {path.relative_to(folder).as_posix(): value for path, value in sums.items()}
    write_text(folder / NAME, json.dumps(names, indent=1) + "\n")


def add_checksum(folder: pathlib.Path, path: pathlib.Path) -> None:
    """Adds the checksum of a file to those of a checkpoint, if it has any.

    Args:
        folder: of the checkpoint.
        path: of the file, in an item of the checkpoint.
    """
    names = _read_checksums(folder)
    if names:
        names[path.relative_to(folder).as_posix()] = digest(path)
        write_text(folder / NAME, json.dumps(names, indent=1) + "\n")


def damage(folder: pathlib.Path, items: Collection[str] = ()) -> str:
    """Verifies the files of a checkpoint.

    Args:
        folder: of the checkpoint.
        items: to verify; (): all.

    Returns:
        The fault, with the name of a file; "" if all files match, or if the checkpoint has no
        checksums, as in version 0.1.

    Raises:
        InputError: a file is there and cannot be read.
    """
    try:
        expected = _read_checksums(folder)
        names = [name for name in expected if not items or name.split("/")[0] in items]
        with ThreadPoolExecutor(THREADS) as pool:
            found = pool.map(_checksum, [folder / name for name in names])
            for name, value in zip(names, found, strict=True):
                if value is None:
                    return f"{name} is missing"
                if value != expected[name]:
                    return f"{name} does not match its checksum"
    except OSError as error:
        raise InputError(f"the checkpoint {folder} cannot be read: {error}") from error
    except ValueError:
        return f"{NAME} does not match its checksum"
    return ""


def _read_checksums(folder: pathlib.Path) -> dict[str, str]:
    """Reads checksums by file; raises ValueError if they are damaged."""
    try:
        sums = json.loads((folder / NAME).read_bytes())
    except FileNotFoundError:
        return {}
    if not isinstance(sums, dict):
        raise ValueError("not a table of files")
    return sums


def _checksum(path: pathlib.Path) -> str | None:
    """Hashes a file; None if it is not there."""
    try:
        return digest(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
