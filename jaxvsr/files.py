"""Files that appear as a whole or not at all, whatever interrupts their writer."""

import os
import pathlib


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file: what was there before stays until all of the new file is on the disk.

    Args:
        path: of the file, in a folder that exists.
        text: its content.

    Raises:
        OSError: the file cannot be written; nothing is left beside the old one.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


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
