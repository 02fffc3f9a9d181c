"""Logs of a run: TensorBoard events, metrics.jsonl, pictures."""

import json
import os
import pathlib
from collections.abc import Mapping

import jax
import numpy as np
from clu import metric_writers

from jaxvsr.errors import InputError
from jaxvsr.files import check_regular, json_text, naming, write_text
from jaxvsr.video.images import write_image


def make_workdir(workdir: pathlib.Path) -> None:
    """Creates the folder of a run; raises InputError if it cannot be created or written to."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder --workdir={workdir} cannot be created: {error}") from error
    for folder in (workdir, *(workdir / name for name in ("checkpoints", "images", "eval"))):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is not a folder: use another --workdir")
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"the folder {folder} cannot be written to: use another --workdir")


class Summaries:
    """Writes numbers and pictures of a run; does nothing on hosts other than the first.

    metrics.jsonl has a line per reported step, with all digits; numbers that are not finite are
    null.
    """

    def __init__(self, workdir: pathlib.Path, step: int | None) -> None:
        """Opens a run's folder.

        Args:
            workdir: of the run.
            step: of the checkpoint to resume from; later lines are dropped. None: all are kept.
        """
        self._active = jax.process_index() == 0
        if not self._active:
            return
        self._images = workdir / "images"
        path = workdir / "metrics.jsonl"
        check_regular(path)
        try:
            if step is not None:
                _truncate(path, step)
            self._lines = path.open("a")
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
        self._writer = metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(workdir)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers."""
        if not self._active:
            return
        values = {key: float(value) for key, value in values.items()}
        with naming(pathlib.Path(self._lines.name)):
            self._lines.write(json_text({"step": step, **values}) + "\n")
            self._lines.flush()
        self._writer.write_scalars(step, values)

    def image(self, step: int, name: str, picture: np.ndarray) -> pathlib.Path | None:
        """Writes a picture (h, w, 3) uint8 to TensorBoard and to images/<name>_<step>.png.

        Returns:
            The path of the PNG; None on hosts other than the first.
        """
        if not self._active:
            return None
        self._writer.write_images(step, {name: picture[None]})
        return write_image(self._images / f"{name}_{step:08d}.png", picture)

    def close(self) -> None:
        """Waits until everything is on disk."""
        if self._active:
            self._writer.close()
            self._lines.close()


def _truncate(path: pathlib.Path, step: int) -> None:
    """Keeps the complete lines of metrics.jsonl up to a step."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                kept.append(line.decode())
        except (ValueError, KeyError, TypeError):  # an incomplete or damaged line of a killed run
            continue
    write_text(path, "".join(kept))
