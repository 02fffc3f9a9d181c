"""Time of jaxvsr and of the official PyTorch code on a CPU, measured alternately.

    python -m benchmarks.cpu --official=DIR --out=benchmarks/results      # writes cpu.md
    python -m benchmarks.cpu --official=DIR --python=/path/with/torch/bin/python
    python -m benchmarks.cpu --official=DIR --dry --rounds=1              # tiny networks

Inference in float32, whole clips, as many threads as cores. The official code computes in a process
of its own with random weights, which jaxvsr reads by `weights.from_torch`: outputs are compared
before anything is timed. Then one computes while the other sleeps, round by round.

DIR holds folders of the official repositories, as `benchmarks.official` describes. Programs are
compiled once and kept (`--compile_cache` of the commands): a second run starts sooner. Let nothing
else run meanwhile.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.common import machine, make_parser
from benchmarks.parity import GOLDEN, fields_of
from jaxvsr import models, weights
from jaxvsr.compile_cache import use_compile_cache
from jaxvsr.evaluation.markdown import markdown
from jaxvsr.files import write_text
from jaxvsr.layers.sown import keep_ratio

PAUSE = 0.5  # seconds before each call, in which the other's threads stop waiting for work
# Network: its forms, by fields.
NETWORKS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "basicvsr": ({},),
    "iconvsr": ({},),
    "basicvsrpp": ({},),
    "psrt": ({},),
    "miavsr": ({"gating": "dense"}, {"gating": "bucketed"}),
    "vrt": ({},),
}


@dataclasses.dataclass(frozen=True)
class Official:
    """The official code of a network, at work in another process.

    Attributes:
        weights: its tensors, by their official names.
        sr: its output (1, t, h', w', 3).
        facts: "torch" (version), "threads", and "kept" (fraction of tokens).
        seconds: computes the clip again; returns the time.
    """

    weights: Mapping[str, np.ndarray]
    sr: np.ndarray
    facts: Mapping[str, Any]
    seconds: Callable[[], float]


@dataclasses.dataclass(frozen=True)
class Row:
    """What is measured of a form of a network.

    Attributes:
        name: of the network and the form.
        theirs, ours: seconds of each round.
        frames: of the clip.
        kept: fractions of tokens that masks keep: the official code's, jaxvsr's.
        error: relative L2 difference of the outputs.
    """

    name: str
    theirs: Sequence[float]
    ours: Sequence[float]
    frames: int
    kept: tuple[float, float]
    error: float


@contextlib.contextmanager
def started(command: Sequence[str], lq: np.ndarray) -> Iterator[Official]:
    """Starts a process that behaves as `official.serve`, and ends it.

    Args:
        command: its program and first arguments; a folder with the clip follows as the last.
        lq: (1, t, h, w, 3).
    """
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        np.save(work / "lq.npy", lq)
        process = subprocess.Popen(
            [*command, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin and process.stdout
        stdin, stdout = process.stdin, process.stdout

        def answer() -> Any:
            if line := stdout.readline():
                return json.loads(line)
            raise RuntimeError(f"the official code failed: {shlex.join(command)}")

        def seconds() -> float:
            stdin.write("\n")
            stdin.flush()
            return answer()

        try:
            facts = answer()
            with np.load(work / "official.npz") as arrays:
                sr = arrays["sr"]
                tensors = {
                    name.removeprefix("weights/"): arrays[name] for name in set(arrays) - {"sr"}
                }
            yield Official(tensors, sr, facts, seconds)
        finally:
            process.kill()
            process.wait()
            stdin.close()
            stdout.close()


def alternately(calls: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Times calls, each of which returns its seconds, one after the other in each round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(PAUSE)
            times[name].append(call())
    return times


def measure(
    name: str, fields: Mapping[str, Any], theirs: Official, lq: np.ndarray, rounds: int
) -> list[Row]:
    """Compares the forms of a network with the official code, and times all alternately."""
    calls, kept, errors = {"": theirs.seconds}, dict[str, float](), dict[str, float]()
    variables = jax.device_put(weights.from_torch(name, theirs.weights, **fields))
    clip = jax.device_put(lq)
    for form in NETWORKS[name]:
        model = models.create(name, **fields, **form)

        def forward(variables: Any, lq: jax.Array, model: Any = model) -> Any:
            sr, sown = model.apply(variables, lq, mutable=["aux"])
            return sr, keep_ratio(sown.get("aux", {}))

        compiled = jax.jit(forward).lower(variables, clip).compile()

        def seconds(compiled: Any = compiled) -> float:
            start = time.perf_counter()
            jax.block_until_ready(compiled(variables, clip))
            return time.perf_counter() - start

        title = " ".join((name, *(f"{key}={value}" for key, value in form.items())))
        sr, ratio = compiled(variables, clip)
        difference = np.linalg.norm(np.asarray(sr, np.float64) - theirs.sr)
        errors[title] = float(difference / np.linalg.norm(theirs.sr))
        kept[title] = float(ratio)
        calls[title] = seconds
    times = alternately(calls, rounds)
    return [
        Row(
            name=title,
            theirs=times[""],
            ours=times[title],
            frames=lq.shape[1],
            kept=(theirs.facts["kept"], kept[title]),
            error=errors[title],
        )
        for title in errors
    ]


def table(rows: Sequence[Row]) -> str:
    """The results as a Markdown table; times are medians."""
    heads = ["network", "official code (ms a frame)", "jaxvsr (ms a frame)", "ratio", "its range"]
    heads += ["tokens kept: official code", "jaxvsr", "relative L2 error"]
    lines = []
    for row in rows:
        ratios = np.divide(row.theirs, row.ours)
        times = [f"{1e3 * np.median(x) / row.frames:,.0f}" for x in (row.theirs, row.ours)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        kept = [f"{ratio:.0%}" if min(row.kept) < 1 else "" for ratio in row.kept]
        figures = [f"{np.median(ratios):.2f}", spread, *kept, f"{row.error:.1e}"]
        lines.append([f"`{row.name}`", *times, *figures])
    return markdown(heads, lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the networks, prints the page and writes it where `--out` names a folder."""
    given = sys.argv[1:] if argv is None else argv

    def words(text: str) -> list[str]:
        return text.split(",")

    def size(text: str) -> tuple[int, int]:
        height, width = map(int, text.split("x"))
        return height, width

    parser = make_parser("cpu", __doc__)
    add = parser.add_argument
    add("--official", type=pathlib.Path, required=True, help="folder of the repositories")
    add("--python", default=sys.executable, help="interpreter that has torch")
    add("--networks", type=words, default=list(NETWORKS), help=f"of {','.join(NETWORKS)}")
    add("--size", type=size, default=(64, 64), help="HEIGHTxWIDTH of the frames")
    add("--frames", type=int, default=5)
    add("--rounds", type=int, default=5)
    add("--dry", action="store_true", help="networks of the golden cases: few channels")
    add("--out", type=pathlib.Path, help="folder for cpu.md")
    options = parser.parse_args(given)
    if unknown := set(options.networks) - set(NETWORKS):
        parser.error(f"unknown networks: {', '.join(sorted(unknown))}")
    jax.config.update("jax_platforms", "cpu")
    use_compile_cache("")
    load = os.getloadavg()[0]
    rows, facts = list[Row](), dict[str, Any]()
    lq = np.random.default_rng(0).random((1, options.frames, *options.size, 3), np.float32)
    for name in options.networks:
        case = f"{name}_tiny"
        config = json.loads((GOLDEN / case / "manifest.json").read_text())["config"]
        fields = fields_of(case, config) if options.dry else {}
        command = [options.python, "-m", "benchmarks.official", str(options.official.resolve())]
        command += [name, json.dumps(config if options.dry else {})]
        with started(command, lq) as theirs:
            rows += measure(name, fields, theirs, lq, options.rounds)
            facts = dict(theirs.facts)
        page = PAGE.format(
            command=f"python -m benchmarks.cpu {shlex.join(given)}",
            table=table(rows),
            height=options.size[0],
            width=options.size[1],
            frames=options.frames,
            rounds=options.rounds,
            threads=facts["threads"],
            torch=facts["torch"],
            machine=machine(),
            date=time.strftime("%Y-%m-%d"),
            load=load,
        )
        if options.out:  # after each network, so that an interruption loses one
            options.out.mkdir(parents=True, exist_ok=True)
            write_text(options.out / "cpu.md", page)
        print(f"{name}: measured", file=sys.stderr, flush=True)
    print(page)


PAGE = """# CPU: jaxvsr beside the official PyTorch code

    {command}

One clip of {frames} frames of {height}x{width}, float32, {threads} threads. Times are medians of
{rounds} rounds, in which the official code and jaxvsr compute one after the other. A ratio (higher:
jaxvsr is faster) is the median of the rounds' ratios; its range: the lowest and highest. Weights
and frames are random, the same for both. "Tokens kept": the fraction that MIA-VSR's masks keep
after the first frame of each branch. BasicVSR++'s, IconVSR's and VRT's deformable convolutions of
the official code are torchvision's.

{table}

Machine: {machine}, PyTorch {torch}; {date}, load average {load:.2f} at the start.
"""

if __name__ == "__main__":
    main()
