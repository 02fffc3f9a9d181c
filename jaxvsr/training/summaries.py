"""Logs of a run: TensorBoard events, metrics.jsonl, pictures."""

import contextlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
from clu import metric_writers
from tensorboard.plugins.hparams import api as hparams_api
from tensorboard.util import tensor_util

from jaxvsr.config import fields, plain, shared_fields
from jaxvsr.errors import InputError
from jaxvsr.files import check_regular, json_text, naming, write_text
from jaxvsr.training.telemetry import earlier_seconds
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
    """Writes numbers, pictures and texts of a run; does nothing on hosts other than the first.

    TensorBoard names its lines and pictures after the folder of the run. Beside it are "bicubic",
    whose scores are a second line in each chart, and "eval", the report of the best checkpoint:
    runs of their own, since a curve must not return to an earlier step.

    metrics.jsonl has a line per reported step of a training, with all digits; numbers that are not
    finite are null.

    Attributes:
        earlier: of `earlier_seconds`, for a training.
    """

    def __init__(self, workdir: pathlib.Path, step: int | None) -> None:
        """Opens a run's folder.

        Args:
            workdir: of the run.
            step: of the checkpoint that the training resumes from; later lines of metrics.jsonl are
                dropped. None: for the report of a checkpoint, in the run "eval".
        """
        self.earlier: dict[str, float] = {}
        self._active = jax.process_index() == 0
        if not self._active:
            return
        self._images = workdir / "images"
        self._name = workdir.resolve().name
        self._folder, self._lines = workdir / "eval", None
        if step is not None:
            path, self._folder = workdir / "metrics.jsonl", workdir
            check_regular(path)
            try:
                self.earlier = _truncate(path, step)
                self._lines = path.open("a")
            except OSError as error:
                raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
        self._writer = _writer(self._folder)
        self._baselines: dict[str, metric_writers.MetricWriter] = {}

    def describe(self, step: int, config: ml_collections.ConfigDict) -> None:
        """Writes a config: a table per section, and hyperparameters, by which runs are compared."""
        if not self._active:
            return
        for section, values in plain(config).items():
            rows = [f"| {name} | `{json.dumps(value)}` |" for name, value in fields(values)]
            table = "\n".join(["| field | value |", "|---|---|", *rows])
            self._writer.write_texts(step, {f"config/{section}": table})
        leaves = {
            name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
            for name, value in shared_fields(config).items()
        }
        name = self._name if self._lines else f"{self._name}/eval"
        (summary,) = hparams_api.hparams_pb(leaves, trial_id=name).value
        nothing = tensor_util.make_ndarray(summary.tensor)
        self._writer.write_summaries(
            0, {summary.tag: nothing}, metadata={summary.tag: summary.metadata}
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers."""
        if not self._active:
            return
        values = {key: float(value) for key, value in values.items()}
        if self._lines:
            with naming(pathlib.Path(self._lines.name)):
                self._lines.write(json_text({"step": step, **values}) + "\n")
                self._lines.flush()
        self._writer.write_scalars(step, values)

    def baseline(self, step: int, name: str, values: Mapping[str, float]) -> None:
        """Writes the scores of another method, such as "bicubic", to TensorBoard."""
        if not self._active:
            return
        if name not in self._baselines:
            self._baselines[name] = _writer(self._folder / name)
        self._baselines[name].write_scalars(step, values)

    def text(self, step: int, tag: str, markdown: str) -> None:
        """Writes a text to TensorBoard."""
        if self._active:
            self._writer.write_texts(step, {tag: markdown})

    def images(
        self, step: int, tag: str, panels: np.ndarray, picture: np.ndarray
    ) -> pathlib.Path | None:
        """Writes panels to TensorBoard and a picture of all to images/.

        Args:
            step: of the training.
            tag: "eval/<set>/<kind>"; the PNG is <set>_<kind>_<step>.png.
            panels: (n, h, w, 3) uint8.
            picture: (h', w', 3) uint8.

        Returns:
            The path of the PNG; None on hosts other than the first.
        """
        if not self._active:
            return None
        self._writer.write_images(step, {tag: panels})
        name = tag.removeprefix("eval/").replace("/", "_")
        return write_image(self._images / f"{name}_{step:08d}.png", picture)

    def close(self) -> None:
        """Waits until everything is on disk."""
        if not self._active:
            return
        with contextlib.ExitStack() as stack:
            for opened in (self._lines, self._writer, *self._baselines.values()):
                if opened:
                    stack.callback(opened.close)


def _writer(folder: pathlib.Path) -> metric_writers.MetricWriter:
    return metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(folder)))


def _truncate(path: pathlib.Path, step: int) -> dict[str, float]:
    """Keeps the complete lines of metrics.jsonl up to a step; returns `earlier_seconds` of all."""
    if not path.exists():
        return {}
    kept, found = [], list[dict[str, Any]]()
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            values = json.loads(line)
            if not line.endswith(b"\n"):
                continue
            if values["step"] <= step:
                kept.append(line.decode())
            found.append(values)
        except (ValueError, KeyError, TypeError):  # an incomplete or damaged line of a killed run
            continue
    write_text(path, "".join(kept))
    return earlier_seconds(found, step)
