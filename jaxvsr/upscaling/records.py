"""Small JSON files that hold their own digest, and the digests of other files."""

import hashlib
import json
import pathlib
from typing import Any

from jaxvsr.files import digest, write_text


class DamagedFile(Exception):
    """A file that is missing or was changed; the message names it."""


def write_record(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON value and its digest, all or nothing."""
    record = {"sha256": _sha256(content), "content": content}
    write_text(path, json.dumps(record, indent=2))


def read_record(path: pathlib.Path) -> Any:
    """Reads a file of `write_record`; raises DamagedFile if it is missing or was changed."""
    _check_file(path)
    try:
        record = json.loads(path.read_bytes())
        if record["sha256"] == _sha256(record["content"]):
            return record["content"]
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise DamagedFile(f"{path} is damaged")


def verify(path: pathlib.Path, expected: str) -> None:
    """Raises DamagedFile unless a file has the expected digest."""
    _check_file(path)
    if digest(path) != expected:
        raise DamagedFile(f"{path} is damaged")


def _check_file(path: pathlib.Path) -> None:
    """Raises DamagedFile unless a path is a file; reading a pipe would wait for ever."""
    if not path.exists():
        raise DamagedFile(f"{path} is missing")
    if not path.is_file():
        raise DamagedFile(f"{path} is not a file")


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
