"""Scores as tables, CSV and JSON."""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxvsr.evaluation.markdown import markdown
from jaxvsr.evaluation.protocol import METRICS
from jaxvsr.files import json_text, write_text


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of methods on a data set.

    Attributes:
        protocol: the settings of the evaluation, JSON values by name.
        scores: method -> metric -> clip -> score of each scored frame, or pair of neighbors.
        drawn: pictures by name, each of panels: title -> (h, w, 3) uint8.
        kind_of: the kind of each clip, such as "tripod"; {} if the data set has no kinds.
    """

    protocol: dict[str, Any]
    scores: dict[str, dict[str, dict[str, np.ndarray]]]
    drawn: Mapping[str, Mapping[str, np.ndarray]]
    kind_of: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def clips(self) -> list[str]:
        """The names of the scored clips."""
        return list(self._any_method()["psnr"])

    @property
    def kinds(self) -> list[str]:
        """The kinds of the scored clips, in order of first appearance."""
        return list(dict.fromkeys(self.kind_of[clip] for clip in self.clips if self.kind_of))

    def mean(self, method: str, metric: str, kind: str = "") -> float:
        """Averages over the frames of each clip, then over clips ("kind": of one kind only).

        Frames and clips without a score (NaN) do not count; NaN if none has one.
        """
        by_clip = self.scores[method][metric]
        chosen = [clip for clip in by_clip if not kind or self.kind_of[clip] == kind]
        return _mean([_mean(by_clip[clip]) for clip in chosen])

    def title(self) -> str:
        """Describes the protocol in a line."""
        protocol = self.protocol
        frames = protocol["gt_frames"] or protocol["frames"]
        made = protocol["degradation"]
        words = [
            f"{len(self.clips)} clips",
            *filter(None, [protocol["part"]]),
            *([] if made == "none" else [f"inputs by {made}"]),
            f"frames {', '.join(map(str, frames))}" if frames else "all frames",
            protocol["channel"].upper(),
        ]
        if protocol["crop"]:
            words.append(f"a border of {protocol['crop']} left out")
        if protocol["lq_frames"]:
            words.append(f"from frames {', '.join(map(str, protocol['lq_frames']))}")
        if protocol["noise"]:
            words.append(f"noise of {protocol['noise']:g}")
        if protocol["input"] != "plain":
            words.append(f"input {protocol['input']}")
        if protocol["self_ensemble"]:
            words.append("self-ensemble of 8")
        if not protocol["rounded"]:
            words.append("not rounded")
        if any(protocol["tile"]):
            words.append(f"in tiles of {'x'.join(map(str, protocol['tile']))}")
        if protocol["dtype"]:
            words.append(f"computed in {protocol['dtype']}")
        return f"{protocol['dataset']} {protocol['split']}: " + ", ".join(words)

    def table(self) -> str:
        """Formats the means in Markdown: a row per method, and per method and kind of clip."""
        rows = [[method, *self._cells(method)] for method in self.scores]
        rows += [
            [f"{method}, {kind}", *self._cells(method, kind=kind)]
            for kind in self.kinds
            for method in self.scores
        ]
        return f"{self.title()}\n{markdown(['', *self._heads()], rows)}"

    def table_of_clips(self) -> str:
        """Formats the means of each clip in Markdown: a row per method and clip."""
        rows = [
            [clip, method, *self._cells(method, clip)]
            for clip in self.clips
            for method in self.scores
        ]
        return markdown(["clip", "", *self._heads()], rows)

    def csv(self) -> str:
        """Formats every score as CSV: a row per method, clip and frame; empty: no score."""
        metrics = list(self._any_method())
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["method", "clip", "frame", *metrics])
        for method, by_metric in self.scores.items():
            for clip in self.clips:
                columns = [
                    ["" if np.isnan(score) else score for score in by_metric[metric][clip].tolist()]
                    for metric in metrics
                ]
                count = max(map(len, columns))
                # A score of two frames is listed with the later one.
                columns = [[""] * (count - len(column)) + column for column in columns]
                chosen = self.protocol["gt_frames"] or self.protocol["frames"]
                numbers = chosen or range(count)
                for number, *row in zip(numbers, *columns, strict=True):
                    writer.writerow([method, clip, number, *row])
        return out.getvalue()

    def json(self, origin: Mapping[str, Any]) -> str:
        """Formats the protocol, the checkpoint and all means as JSON; null: no score."""
        scores = {
            method: {
                metric: {
                    "mean": self.mean(method, metric),
                    "kinds": {kind: self.mean(method, metric, kind) for kind in self.kinds},
                    "clips": {clip: _mean(frames) for clip, frames in by_clip.items()},
                }
                for metric, by_clip in by_metric.items()
            }
            for method, by_metric in self.scores.items()
        }
        return json_text({"protocol": self.protocol, "scores": scores, **origin}, indent=2) + "\n"

    def save(self, folder: pathlib.Path, name: str, origin: Mapping[str, Any]) -> pathlib.Path:
        """Writes <name>.md, .csv and .json into a folder, each atomically.

        Args:
            folder: created if it does not exist.
            name: of the files, without suffix.
            origin: "checkpoint", the scored checkpoint, and "config", its config.

        Returns:
            The path of the files without suffix.
        """
        folder.mkdir(parents=True, exist_ok=True)
        facts = {**self.protocol, "checkpoint": origin["checkpoint"]}
        protocol = "\n".join(f"- {key}: {value}" for key, value in facts.items())
        texts = {
            "md": f"{self.table()}\n\n{self.table_of_clips()}\n\n{protocol}\n",
            "csv": self.csv(),
            "json": self.json(origin),
        }
        for suffix, text in texts.items():
            write_text(folder / f"{name}.{suffix}", text)
        return folder / name

    def _any_method(self) -> dict[str, dict[str, np.ndarray]]:
        return next(iter(self.scores.values()))

    def _heads(self) -> list[str]:
        return [METRICS[metric].heading for metric in self._any_method()]

    def _cells(self, method: str, clip: str | None = None, kind: str = "") -> list[str]:
        by_metric = self.scores[method]
        if clip is None:
            return [_cell(self.mean(method, metric, kind)) for metric in by_metric]
        return [_cell(_mean(by_clip[clip])) for by_clip in by_metric.values()]


def _mean(scores: Sequence[float] | np.ndarray) -> float:
    """Averages the scores that are there; NaN if none is."""
    there = [score for score in scores if not np.isnan(score)]
    return float(np.mean(there)) if there else np.nan


def _cell(score: float) -> str:
    return "none" if np.isnan(score) else f"{score:.4f}"
