"""Tables in Markdown, and files of a report."""

import pathlib
from collections.abc import Mapping
from typing import Any

from jaxvsr.files import json_text, write_text


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    """Formats a table in Markdown, with columns that are aligned in plain text."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if _is_number(cell) else cell.ljust(width)
            for cell, width in zip(line, widths, strict=True)
        )
        + " |"
        for line in lines
    )


def save_report(path: pathlib.Path, table: str, facts: Mapping[str, Any]) -> pathlib.Path:
    """Writes <path>.md with a table and <path>.json with its facts; returns the path."""
    write_text(path.with_name(f"{path.name}.md"), f"{table}\n")
    write_text(path.with_name(f"{path.name}.json"), f"{json_text(facts, indent=2)}\n")
    return path


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()
