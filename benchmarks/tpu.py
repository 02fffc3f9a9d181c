"""Which programs fit a TPU, by ahead-of-time compilation; no TPU is needed.

    pip install 'jaxvsr[tpu]'
    python -m benchmarks.tpu --out=tpu                 # all programs: hours on two cores
    python -m benchmarks.tpu --out=tpu swrn miavsr     # programs whose names start so

Each program is compiled by `python -m jaxvsr.profile --topology` and leaves a JSON file in `--out`;
a program whose file exists is not compiled again. Prints a Markdown table of all files.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.common import make_parser
from jaxvsr.evaluation.reports import markdown

CLIP = ("--topology=v5e:1x1", "--size=180x320", "--frames=16", "--dtype=bfloat16")
RECIPE = ("--config=configs/miavsr.py", "--train", "--config.train.accumulate=3")
PROGRAMS: dict[str, tuple[str, ...]] = {
    "miavsr_train_8": (*RECIPE, "--topology=v5e:2x4"),
    "miavsr_train_16": (*RECIPE, "--topology=v5e:4x4", "--batch=48"),
    "swrn": ("--config=configs/swrn.py", *CLIP),
    "swrn_8": ("--config=configs/swrn.py", *CLIP[1:], "--topology=v5e:2x4"),
    "mobile_rrn": ("--config=configs/mobile.py:MobileRRN", *CLIP),
    "fani": ("--config=configs/mobile.py:FANI", *CLIP),
    "basicvsr": ("--config=configs/basicvsr.py", *CLIP),
    "iconvsr": ("--config=configs/iconvsr.py", *CLIP),
    "basicvsrpp": ("--config=configs/basicvsrpp.py", *CLIP),
    "miavsr": ("--config=configs/miavsr.py", *CLIP),
    "iiavsr": ("--config=configs/iiavsr.py", *CLIP),
    "psrt": ("--config=configs/psrt.py", *CLIP),
    "rvrt": ("--config=configs/rvrt.py", *CLIP),
    "rvrt_light": ("--config=configs/rvrt_light.py", *CLIP),
    "vrt": ("--config=configs/vrt.py", *CLIP[:2], "--frames=6", CLIP[3]),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Compiles the programs that have no file yet and prints the table."""
    parser = make_parser("tpu", __doc__)
    parser.add_argument("names", nargs="*", default=[""], help="starts of names of programs")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tpu"), help="folder")
    options = parser.parse_args(argv)
    for name, words in PROGRAMS.items():
        path = options.out / f"{name}.json"
        if name.startswith(tuple(options.names)) and not path.exists():
            subprocess.run([sys.executable, "-m", "jaxvsr.profile", *words, f"--json={path}"])
    found = [options.out / f"{name}.json" for name in PROGRAMS]
    print(table([json.loads(path.read_text()) for path in found if path.exists()]))


def table(fits: list[dict]) -> str:
    """A row per program, from the JSON files of `jaxvsr.profile --topology --json`."""
    heads = [
        *("program", "fits", "HBM (GiB)", "lower bound (ms)", "bound by", "collectives"),
        "compiled in",
    ]
    return markdown(heads, [row(fit) for fit in fits])


def row(fit: dict) -> list[str]:
    """Cells of one program: memory of one chip, lower bound of the time of a call."""
    title, compiled = fit["title"], f"{fit['seconds'] / 60:.0f} min"
    if fit["refusal"]:
        return [title, "no", f"over {fit['hbm'] / 2**30:.0f}", "", "", "", compiled]
    compute, memory = fit["compute_seconds"], fit["memory_seconds"]
    moved = [
        f"{count} {kind}" + f", {size / 2**20:.1f} MiB"
        for kind, (count, size) in fit["traffic"]["collectives"].items()
    ]
    return [
        title,
        "yes" if fit["fits"] else "no",
        f"{fit['used'] / 2**30:.2f}",
        f"{1e3 * max(compute, memory):,.1f}",
        "arithmetic" if compute > memory else "memory",
        "; ".join(moved) or "none",
        compiled,
    ]


if __name__ == "__main__":
    main()
