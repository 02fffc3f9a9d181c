"""Which programs fit a GPU or TPUs, and what bounds their time, by ahead-of-time compilation.

    pip install 'jaxvsr[cuda-compile,tpu]'                  # no GPU and no TPU is needed
    python -m benchmarks.topologies --out=topologies        # all programs: hours on two cores
    python -m benchmarks.topologies --out=topologies h100 v5e_swrn     # names that start so

Each program is compiled by `python -m jaxvsr.profile --topology` and leaves a JSON file in `--out`;
a program whose file exists is not compiled again. Prints Markdown tables of all files.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.common import make_parser
from jaxvsr.evaluation.markdown import markdown

# The networks, those that compile fastest first.
NETWORKS = {
    "swrn": "swrn",
    "mobile_rrn": "mobile:MobileRRN",
    "fani": "mobile:FANI",
    "basicvsr": "basicvsr",
    "iconvsr": "iconvsr",
    "basicvsrpp": "basicvsrpp",
    "rvrt_light": "rvrt_light",
    "psrt": "psrt",
    "iiavsr": "iiavsr",
    "miavsr": "miavsr",
    "rvrt": "rvrt",
    "vrt": "vrt",
}
CLIP = ("--size=180x320", "--frames=16", "--dtype=bfloat16")
# Chip -> topology, for inference and for a training step on the batch of the paper.
CHIPS = {
    "h100": ("h100", "h100"),
    "v5e": ("v5e:1x1", "v5e:2x4"),
    "v6e": ("v6e:1x1", "v6e:2x4"),
}
# Parts per batch: on TPUs each of eight chips computes one clip at a time.
ACCUMULATE = {
    "basicvsrpp": {"h100": 2, "v5e": 1, "v6e": 1},
    "miavsr": {"h100": 6, "v5e": 3, "v6e": 3},
}


def programs() -> dict[str, tuple[str, ...]]:
    """Returns the programs: name -> words of the command `jaxvsr profile`."""
    found: dict[str, tuple[str, ...]] = {}
    for chip, (one, several) in CHIPS.items():
        for name, config in NETWORKS.items():
            found[f"{chip}_{name}"] = (f"--config={config}", f"--topology={one}", *CLIP)
        for name, parts in ACCUMULATE.items():
            words = f"--config={name}", f"--topology={several}", "--train", "--dtype=bfloat16"
            accumulate = f"--config.train.accumulate={parts[chip]}"
            found[f"{chip}_train_{name}"] = (*words, accumulate)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Compiles the programs that have no file yet and prints a table for each chip."""
    parser = make_parser("topologies", __doc__)
    parser.add_argument("names", nargs="*", default=[""], help="starts of names of programs")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("topologies"), help="folder"
    )
    options = parser.parse_args(argv)
    for name, words in programs().items():
        path = options.out / f"{name}.json"
        if name.startswith(tuple(options.names)) and not path.exists():
            subprocess.run([sys.executable, "-m", "jaxvsr.profile", *words, f"--json={path}"])
    for chip in CHIPS:
        found = [options.out / f"{name}.json" for name in programs() if name.startswith(chip)]
        if fits := [json.loads(path.read_text()) for path in found if path.exists()]:
            print(f"\n## {chip}\n\n{table(fits)}")


def table(fits: list[dict]) -> str:
    """A row per program, from the JSON files of `jaxvsr profile --topology --json`."""
    heads = [
        *("program", "fits", "memory (GiB)", "traffic (GB)", "TFLOP", "kernels"),
        *("memory bound (ms)", "compute bound (ms)", "most traffic", "collectives", "compiled (s)"),
    ]
    return markdown(heads, [row(fit) for fit in fits])


def row(fit: dict) -> list[str]:
    """Cells of one program; memory, traffic and arithmetic are those of one chip."""
    name, _, what = fit["title"].partition(", ")
    program = name.removeprefix("configs/") + (f", {what}" if "training" in what else "")
    compute = f"{fit['flops'] / 1e12:.3g}", f"{fit['compute_bound_ms']:,.1f}"
    seconds = f"{fit['compile_seconds']:.0f}"
    if fit["refusal"]:
        over = f"over {fit['available_bytes'] / 2**30:.0f}"
        return [program, "no", over, "", compute[0], "", "", compute[1], "", "", seconds]
    largest = [
        f"{kind} {each['bytes'] / fit['traffic_bytes']:.0%}"
        for kind, each in list(fit["kernel_kinds"].items())[:2]
    ]
    moved = [
        f"{each['number']:,} {kind}, {each['bytes'] / 2**20:,.1f} MiB"
        for kind, each in fit["collectives"].items()
    ]
    return [
        program,
        "yes" if fit["fits"] else "no",
        f"{fit['total_bytes'] / 2**30:.2f}",
        f"{fit['traffic_bytes'] / 1e9:,.1f}",
        compute[0],
        f"{fit['kernels']:,}",
        f"{fit['memory_bound_ms']:,.1f}",
        compute[1],
        ", ".join(largest),
        "; ".join(moved) or "none",
        seconds,
    ]


if __name__ == "__main__":
    main()
