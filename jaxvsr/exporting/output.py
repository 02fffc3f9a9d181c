"""The folder of exported files: each has a description beside it."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxvsr.errors import InputError
from jaxvsr.files import replacing, write_text


def make_folder(out: pathlib.Path) -> None:
    """Makes the output folder; raises InputError if it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".jaxvsr"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"--out={out} cannot be written: {error}") from error


def write_described(path: pathlib.Path, data: bytes, described: Mapping[str, Any]) -> None:
    """Writes a file, and its description as JSON beside it; raises InputError if it cannot."""
    try:
        with replacing(path) as part:
            part.write_bytes(data)
        write_text(path.with_suffix(".json"), json.dumps(described, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"--out={path.parent} cannot be written: {error}") from error
