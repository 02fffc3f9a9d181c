"""The results of `benchmarks.gpu`: JSON lines, and tables in Markdown."""

import collections
import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jaxvsr.evaluation.markdown import markdown

PARITY = (
    ("float32", "relative_l2", ".1e"),
    ("bfloat16", "relative_l2", ".1e"),
    ("bfloat16", "psnr", ".1f"),
)
Line = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of results; without rows it is left out."""

    title: str
    heads: Sequence[str]
    rows: Sequence[list[str]]


class Results:
    """A file of JSON lines, one for each time that a row was begun, measured or failed."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = folder / "results.jsonl"

    def write(self, key: tuple[str, str, str], status: str, **found: Any) -> None:
        line = dict(zip(("group", "name", "setting"), key, strict=True))
        with self.path.open("a") as file:
            file.write(json.dumps({**line, "status": status, **found}) + "\n")
        numbers = ", ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()
        )
        print(f"{time.strftime('%H:%M:%S')} {' '.join(key)}: {status} {numbers}", flush=True)

    def latest(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        """The last line of each row, but nothing takes the place of a success except another."""
        found: dict[tuple[str, str, str], dict[str, Any]] = {}
        for text in self.path.read_text().splitlines() if self.path.exists() else []:
            line = json.loads(text)
            key = line["group"], line["name"], line["setting"]
            if line["status"] == "ok" or found.get(key, line)["status"] != "ok":
                found[key] = line
        return found


def report(folder: pathlib.Path) -> str:
    """The results as Markdown, a table a group."""
    latest = Results(folder).latest()
    groups: dict[str, list[Line]] = collections.defaultdict(list)
    for line in latest.values():
        groups[line["group"] if line["status"] == "ok" else "failed"].append(line)
    machine = latest.get(("run", "machine", ""), {})
    flags = f", XLA_FLAGS={machine['xla_flags']}" if machine.get("xla_flags") else ""
    head = (
        f"{machine.get('machine')}{flags}, {machine.get('date')}: `{machine.get('command')}`. "
        "Random weights; times are medians. *: timed while other programs compiled."
    )
    dense = {(x["name"], x["setting"]): x["ms_a_frame"] for x in groups["inference"]}
    tables = (
        _ceilings(groups["ceilings"]),
        _parity(groups["parity"]),
        _inference(groups["inference"]),
        _masks(groups["masks"], dense),
        _training(groups["training"]),
        _upscaling(groups["upscale"]),
        _official(groups["official"], dense),
        _not_measured(groups["failed"]),
    )
    parts = [f"### {t.title}\n\n{markdown(list(t.heads), list(t.rows))}" for t in tables if t.rows]
    return "\n\n".join([head, *parts]) + "\n"


def _ceilings(lines: Sequence[Line]) -> Table:
    def rate(line: Line) -> str:
        if "gb_per_s" in line:
            return f"{line['gb_per_s']:,.0f} GB/s"
        return f"{line['tflops']:,.0f} TFLOP/s"

    rows = [[x["name"], x["setting"], rate(x)] for x in lines]
    return Table("Ceilings", ("what", "size", "rate"), rows)


def _parity(lines: Sequence[Line]) -> Table:
    checked = {(x["name"], x["setting"]): x for x in lines}

    def cell(name: str, dtype: str, field: str, form: str) -> str:
        return format(checked[name, dtype][field], form) if (name, dtype) in checked else ""

    return Table(
        "Parity with the official code's numbers (tiny networks, window of the output)",
        ("network", "float32: relative L2", "bfloat16: relative L2", "bfloat16: PSNR (dB)"),
        [
            [name, *(cell(name, *column) for column in PARITY)]
            for name in dict.fromkeys(name for name, _ in checked)
        ],
    )


def _inference(lines: Sequence[Line]) -> Table:
    heads = ("network", "clip", "ms a frame", "frames/s", "memory (GiB)", "TFLOP/s", "% of peak")
    rows = [
        [
            *(x["name"], x["setting"], _ms(x), f"{1e3 / x['ms_a_frame']:,.1f}"),
            *(f"{x['gib']:.2f}", f"{x['tflops']:,.1f}", f"{x.get('percent_of_peak', 0):.1f}"),
            f"{x['compile_s']:.0f}",
        ]
        for x in lines
    ]
    return Table("Inference, bfloat16, one clip", (*heads, "compiled (s)"), rows)


def _masks(lines: Sequence[Line], dense: Mapping[Any, float]) -> Table:
    rows = []
    for x in lines:
        reference, mark = dense.get((x["name"], x["setting"])), "" if x["quiet"] else "*"
        for kept, value in x["ms_a_frame"].items():
            cells = f"{value:,.2f}{mark}", _over(value, reference)
            rows.append([x["name"], x["setting"], kept, *cells])
    return Table(
        "Gated computation, masks of blobs forced upon every block",
        ("network", "clip", "tokens kept", "ms a frame", "time over dense"),
        rows,
    )


def _training(lines: Sequence[Line]) -> Table:
    return Table(
        "Training, bfloat16, the official recipe's clips of one device",
        ("network", "batch", "ms a step", "steps/s", "MFU (%)", "memory (GiB)", "compiled (s)"),
        [
            [
                *(x["name"], x["setting"], _ms(x, "ms"), f"{x['steps_per_s']:.2f}"),
                *(f"{x.get('percent_of_peak', 0):.1f}", f"{x['gib']:.1f}", f"{x['compile_s']:.0f}"),
            ]
            for x in lines
        ],
    )


def _upscaling(lines: Sequence[Line]) -> Table:
    rows = [[x["name"], x["setting"], f"{x['frames_per_s']:,.0f}"] for x in lines]
    return Table("Upscaling with the built-in network", ("from", "clip", "frames/s"), rows)


def _official(lines: Sequence[Line], dense: Mapping[Any, float]) -> Table:
    heads = ("network", "precision and clip", "tokens kept", "ms a frame", "memory (GiB)")
    rows = []
    for x in lines:
        ours = dense.get((x["name"].split()[0], x["setting"].partition(", ")[2]))
        kept = f"{x['kept']:.0%}" if "kept" in x else ""
        cells = _ms(x), f"{x.get('gib', 0):.2f}", _over(x["ms_a_frame"], ours)
        rows.append([x["name"], x["setting"], kept, *cells])
    return Table(
        "The official PyTorch code on the same device", (*heads, "over ours in bfloat16"), rows
    )


def _not_measured(lines: Sequence[Line]) -> Table:
    rows = [[x["group"], x["name"], x["setting"], x.get("reason", "interrupted")] for x in lines]
    return Table("Not measured", ("group", "name", "setting", "reason"), rows)


def _ms(line: Line, key: str = "ms_a_frame") -> str:
    return f"{line[key]:,.2f}" + ("" if line.get("quiet", True) else "*")


def _over(value: float, reference: float | None) -> str:
    return f"{value / reference:.2f}" if reference else ""
