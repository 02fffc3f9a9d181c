"""The results of `benchmarks.gpu`: JSON lines, and tables in Markdown."""

import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jaxvsr.evaluation.reports import markdown


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
    ok = [line for line in latest.values() if line["status"] == "ok"]
    machine = latest.get(("run", "machine", ""), {})
    flags = f", XLA_FLAGS={machine['xla_flags']}" if machine.get("xla_flags") else ""
    parts = [
        f"{machine.get('machine')}{flags}, {machine.get('date')}: `{machine.get('command')}`. "
        "Random weights; times are medians. *: timed while other programs compiled."
    ]

    def of(group: str) -> list[dict[str, Any]]:
        return [line for line in ok if line["group"] == group]

    def add(title: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
        if lines:
            parts.append(f"### {title}\n\n" + markdown(list(heads), [list(x) for x in lines]))

    def ms(line: Mapping[str, Any], key: str = "ms_a_frame") -> str:
        return f"{line[key]:,.2f}" + ("" if line.get("quiet", True) else "*")

    add(
        "Ceilings",
        ("what", "size", "rate"),
        [
            (
                x["name"],
                x["setting"],
                f"{x['gb_per_s']:,.0f} GB/s" if "gb_per_s" in x else f"{x['tflops']:,.0f} TFLOP/s",
            )
            for x in of("ceilings")
        ],
    )
    checked = {(x["name"], x["setting"]): x for x in of("parity")}
    add(
        "Parity with the official code's numbers (tiny networks, window of the output)",
        ("network", "float32: relative L2", "bfloat16: relative L2", "bfloat16: PSNR (dB)"),
        [
            (name, *(_cell(checked, (name, dtype), key, form) for dtype, key, form in PARITY))
            for name in dict.fromkeys(name for name, _ in checked)
        ],
    )
    add(
        "Inference, bfloat16, one clip",
        (
            "network",
            "clip",
            "ms a frame",
            "frames/s",
            "memory (GiB)",
            "TFLOP/s",
            "% of peak",
            "compiled (s)",
        ),
        [
            (
                *(x["name"], x["setting"], ms(x), f"{1e3 / x['ms_a_frame']:,.1f}"),
                *(f"{x['gib']:.2f}", f"{x['tflops']:,.1f}", f"{x.get('percent_of_peak', 0):.1f}"),
                f"{x['compile_s']:.0f}",
            )
            for x in of("inference")
        ],
    )
    dense = {(x["name"], x["setting"]): x["ms_a_frame"] for x in of("inference")}
    add(
        "Gated computation, masks of blobs forced upon every block",
        ("network", "clip", "tokens kept", "ms a frame", "time over dense"),
        [
            (*(x["name"], x["setting"], kept), f"{value:,.2f}{'' if x['quiet'] else '*'}", over)
            for x in of("masks")
            for kept, value in x["ms_a_frame"].items()
            for over in [_over(value, dense.get((x["name"], x["setting"])))]
        ],
    )
    add(
        "Training, bfloat16, the official recipe's clips of one device",
        ("network", "batch", "ms a step", "steps/s", "MFU (%)", "memory (GiB)", "compiled (s)"),
        [
            (
                *(x["name"], x["setting"], ms(x, "ms"), f"{x['steps_per_s']:.2f}"),
                *(f"{x.get('percent_of_peak', 0):.1f}", f"{x['gib']:.1f}", f"{x['compile_s']:.0f}"),
            )
            for x in of("training")
        ],
    )
    add(
        "Upscaling with the built-in network",
        ("from", "clip", "frames/s"),
        [(x["name"], x["setting"], f"{x['frames_per_s']:,.0f}") for x in of("upscale")],
    )
    add(
        "The official PyTorch code on the same device",
        (
            "network",
            "precision and clip",
            "tokens kept",
            "ms a frame",
            "memory (GiB)",
            "over ours in bfloat16",
        ),
        [
            (
                *(x["name"], x["setting"], f"{x['kept']:.0%}" if "kept" in x else "", ms(x)),
                f"{x.get('gib', 0):.2f}",
                _over(
                    x["ms_a_frame"],
                    dense.get((x["name"].split()[0], x["setting"].partition(", ")[2])),
                ),
            )
            for x in of("official")
        ],
    )
    failed = [line for line in latest.values() if line["status"] != "ok"]
    add(
        "Not measured",
        ("group", "name", "setting", "reason"),
        [(x["group"], x["name"], x["setting"], x.get("reason", "interrupted")) for x in failed],
    )
    return "\n\n".join(parts) + "\n"


PARITY = (
    ("float32", "relative_l2", ".1e"),
    ("bfloat16", "relative_l2", ".1e"),
    ("bfloat16", "psnr", ".1f"),
)


def _cell(lines: Mapping[Any, dict[str, Any]], key: Any, field: str, form: str) -> str:
    return format(lines[key][field], form) if key in lines else ""


def _over(value: float, reference: float | None) -> str:
    return f"{value / reference:.2f}" if reference else ""
