"""Plot of PSNR against GFLOPs of the networks of the mobile work log.

    python -m benchmarks.mobile_log         # docs/mobile_log.csv -> docs/images/mobile_log.png

The figures are the log's: PSNR in RGB on REDS validation clips, GFLOPs for a frame of 180x320 by
TensorFlow Lite's estimate (`jaxvsr.flops.log_convention`). Needs `jaxvsr[plots]`.
"""

import csv
import dataclasses
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from benchmarks.common import make_parser

ROOT = pathlib.Path(__file__).parents[1] / "docs"
# Color and marker of a family, in the order of the legend.
STYLES = {
    "MVSR": ("#0072b2", "o"),
    "VSR": ("#56b4e9", "s"),
    "SWAT": ("#d55e00", "^"),
    "SORT": ("#009e73", "D"),
    "ABPN": ("#cc79a7", "P"),
    "AFAVSR": ("#e69f00", "X"),
    "VapSR": ("#666666", "v"),
    "SWRN": ("#000000", "*"),
}
NAMED = ("FANI", "ABPN_0", "AFAVSR_0", "MVSR_16")  # beside the front
LEADER = {"arrowstyle": "-", "color": "#999999", "shrinkA": 0, "shrinkB": 3}
INK, PAPER = "#333333", "#ffffff"


@dataclasses.dataclass(frozen=True)
class Row:
    """A network of the log."""

    name: str
    family: str
    psnr: float
    gflops: float
    known: bool


def read(path: pathlib.Path) -> list[Row]:
    """Rows with both a PSNR and a GFLOPs value."""
    with path.open(newline="") as file:
        return [
            Row(
                row["name"],
                row["family"],
                float(row["psnr"]),
                float(row["gflops"]),
                row["structure_known"] == "yes",
            )
            for row in csv.DictReader(file)
            if row["psnr"] and row["gflops"]
        ]


def front(rows: Sequence[Row]) -> list[Row]:
    """The Pareto front, by rising GFLOPs."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.gflops, -row.psnr)):
        if not best or row.psnr > best[-1].psnr:
            best.append(row)
    return best


def draw(rows: Sequence[Row], path: pathlib.Path) -> None:
    """Draws the plot into a PNG file."""
    matplotlib.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10})
    figure, axes = plt.subplots(figsize=(10, 6.2), dpi=150, facecolor=PAPER)
    best = front(rows)
    axes.step(
        [row.gflops for row in best] + [130],
        [row.psnr for row in best] + [best[-1].psnr],
        where="post",
        color=INK,
        linewidth=1.2,
        alpha=0.55,
        zorder=1,
    )
    for family, (color, marker) in STYLES.items():
        for known in (True, False):
            inside = [row for row in rows if row.family == family and row.known == known]
            axes.scatter(
                [row.gflops for row in inside],
                [row.psnr for row in inside],
                s={"*": 130, "X": 58, "P": 58}.get(marker, 42),
                marker=marker,
                facecolor=color if known else PAPER,
                edgecolor=PAPER if known else color,
                linewidth=0.6 if known else 1.2,
                zorder=3,
            )
    axes.set_xscale("log")
    axes.set_xlim(1.4, 130)
    axes.set_ylim(27.1, 28.22)
    ticks = (2, 3, 5, 10, 20, 50, 100)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("GFLOPs per frame, 180x320 to 720x1280", color=INK)
    axes.set_ylabel("PSNR on REDS validation clips (dB)", color=INK)
    axes.set_title("The mobile work log: quality against arithmetic", color=INK, loc="left", pad=12)
    axes.grid(color="#e6e6e6", linewidth=0.7, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(color="#999999", labelcolor=INK)
    legend(axes)
    label(axes, [row for row in rows if row in best or row.name in NAMED], rows)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})


def legend(axes: Axes) -> None:
    """Adds the legend: families, hollow markers, the Pareto front."""
    handles = [
        Line2D([], [], color=color, marker=marker, linestyle="", markeredgecolor=PAPER, label=name)
        for name, (color, marker) in STYLES.items()
    ]
    hollow: dict[str, Any] = {
        "color": PAPER,
        "marker": "o",
        "linestyle": "",
        "markeredgecolor": INK,
    }
    handles.append(Line2D([], [], **hollow, label="structure unknown"))
    handles.append(Line2D([], [], color=INK, alpha=0.55, linewidth=1.2, label="Pareto front"))
    axes.legend(
        handles=handles, loc="lower right", frameon=False, ncols=2, labelcolor=INK, markerscale=1.2
    )


def label(axes: Axes, named: Sequence[Row], rows: Sequence[Row]) -> None:
    """Writes names next to points so that none covers a point, a name or a leader line."""
    figure: Any = axes.get_figure()
    figure.tight_layout()
    renderer = figure.canvas.get_renderer()
    taken = [square(axes.transData.transform((row.gflops, row.psnr)), 14) for row in rows]
    # The upper left, where the front leaves room, first.
    angles = np.radians(sorted(range(0, 360, 15), key=lambda angle: abs(angle - 135)))
    written: list[Bbox] = []
    for row in sorted(named, key=lambda row: row.gflops):
        point = axes.transData.transform((row.gflops, row.psnr))
        for distance, angle in itertools.product((7, 14, 22, 32, 44, 60, 80), angles):
            right, up = np.cos(angle), np.sin(angle)
            text = axes.annotate(
                row.name,
                (row.gflops, row.psnr),
                xytext=(right * distance, up * distance),
                textcoords="offset points",
                ha="left" if right > 0.3 else "right" if right < -0.3 else "center",
                va="bottom" if up > 0.3 else "top" if up < -0.3 else "center",
                fontsize=8.5,
                color=STYLES[row.family][0],
                arrowprops={**LEADER, "lw": 0.6} if distance > 14 else None,
            )
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer).padded(2)  # without the line
            end = np.add(box.min, box.max) / 2
            line = [square(point + (end - point) * part, 4) for part in np.linspace(0, 1, 30)]
            inside = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
            crossed = any(box.overlaps(other) for other in taken) or any(
                part.overlaps(other) for part in line for other in written
            )
            if inside and not crossed:
                written.append(box)
                taken += [box, *(line if distance > 14 else [])]
                break
            text.remove()


def square(center: np.ndarray, side: float) -> Bbox:
    """A square of `side` pixels around a point (x, y)."""
    x, y = center
    return Bbox.from_bounds(x - side / 2, y - side / 2, side, side)


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the plot."""
    parser = make_parser("mobile_log", __doc__)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "images" / "mobile_log.png")
    options = parser.parse_args(argv)
    draw(read(ROOT / "mobile_log.csv"), options.out)
    print(options.out)


if __name__ == "__main__":
    main()
