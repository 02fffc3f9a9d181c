"""Times the first steps of a new user, from the clone to a first picture and a trained network.

    python -m benchmarks.newcomer                      # clones this checkout; minutes
    python -m benchmarks.newcomer --source=https://github.com/jaxvsr/jaxvsr --steps=1200
    python -m benchmarks.newcomer --steps=0            # up to the first video only

Everything happens in a new folder and a new virtual environment, with no compiled program and no
data set to start from: clone, install, `jaxvsr upscale --sample`, build the embedded data set,
train a tiny MIA-VSR on it for a few steps and score it. pip may take packages from its own cache
(--no_cache: it does not). The commands are those of the README.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks.common import machine, make_parser
from jaxvsr.evaluation.markdown import markdown

ROOT = pathlib.Path(__file__).parents[1]
# Variables by which this process's packages or caches would be found.
INHERITED = ("PYTHONPATH", "VIRTUAL_ENV", "JAX_COMPILATION_CACHE_DIR", "TFDS_DATA_DIR")


@dataclasses.dataclass(frozen=True)
class Step:
    """A command of a new user.

    Attributes:
        title: in the table.
        command: its words.
        makes: a file or folder that exists after it, below the new folder; "": none.
    """

    title: str
    command: tuple[str, ...]
    makes: str = ""


def plan(folder: pathlib.Path, source: str, python: str, steps: int, cache: bool) -> list[Step]:
    """Lists the commands.

    Args:
        folder: new, where everything is written.
        source: of the clone.
        python: executable that makes the virtual environment.
        steps: of the training; 0: neither data set nor training.
        cache: whether pip may use its cache.
    """
    tool, run = str(folder / "venv/bin/jaxvsr"), str(folder / "run")
    pip = (str(folder / "venv/bin/python"), *("-m", "pip", "install", "--quiet"))
    data = str(folder / "data")
    train = (f"--config.train.steps={steps}", f"--config.eval.every={steps}")
    first = [
        Step("clone", ("git", "clone", "--quiet", source, str(folder / "jaxvsr")), "jaxvsr"),
        Step("new environment", (python, "-m", "venv", str(folder / "venv")), "venv/bin/python"),
        Step(
            "install",
            (*pip, *(() if cache else ("--no-cache-dir",)), "-e", f"{folder / 'jaxvsr'}[video]"),
            "venv/bin/jaxvsr",
        ),
        Step("first video", (tool, "upscale", "--sample", str(folder / "out.mp4")), "out.mp4"),
    ]
    training = [
        Step("data set", (tool, "data", "dead_leaves/small", f"--data_dir={data}"), "data"),
        Step(
            f"train {steps} steps and score",
            (
                *(tool, "train", "--config=miavsr:tiny", f"--workdir={run}"),
                *(f"--config.data.dir={data}", *train),
            ),
            "run/images",
        ),
    ]
    return [*first, *(training if steps else [])]


def measure(steps: Sequence[Step], folder: pathlib.Path) -> list[float]:
    """Runs the steps one after the other; returns the seconds of each.

    Raises:
        RuntimeError: a command failed or did not make its file; the message ends with its output.
    """
    home = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    kept = {name: value for name, value in os.environ.items() if name not in INHERITED}
    pip = {"PIP_CACHE_DIR": _pip_cache()}
    seconds = []
    for step in steps:
        print(" ".join(step.command), flush=True)
        begin = time.perf_counter()
        done = subprocess.run(
            step.command,
            cwd=folder,
            env=kept | home | pip,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds.append(time.perf_counter() - begin)
        if done.returncode or not (folder / step.makes).exists():
            end = "\n".join(done.stdout.splitlines()[-20:])
            raise RuntimeError(f"{step.title} failed with exit code {done.returncode}:\n{end}")
        print(f"    {seconds[-1]:.1f} s", flush=True)
    return seconds


def _pip_cache() -> str:
    """The folder of pip's cache, which the new home folder would hide."""
    command = (sys.executable, "-m", "pip", "cache", "dir")
    found = subprocess.run(command, capture_output=True, text=True)
    return found.stdout.strip() or str(pathlib.Path.home() / ".cache/pip")


def table(steps: Sequence[Step], seconds: Sequence[float]) -> str:
    """Formats the times in Markdown: of each step, and since the start."""
    rows, total = [], 0.0
    for step, each in zip(steps, seconds, strict=True):
        total += each
        rows.append([step.title, f"{each:.1f}", f"{total:.1f}"])
    return markdown(["", "seconds", "since the start"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs and prints the table."""
    parser = make_parser("newcomer", __doc__)
    parser.add_argument("--source", default=str(ROOT), help="a Git repository: address or folder")
    parser.add_argument("--python", default=sys.executable, help="makes the new environment")
    parser.add_argument("--steps", type=int, default=20, help="of the training; 0: none")
    parser.add_argument("--no_cache", action="store_true", help="pip downloads every package")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="newcomer-") as name:
        folder = pathlib.Path(name)
        source, python = options.source, options.python
        steps = plan(folder, source, python, options.steps, not options.no_cache)
        try:
            seconds = measure(steps, folder)
        except (RuntimeError, OSError) as error:
            raise SystemExit(f"newcomer: {error}") from error
    print(f"\n{table(steps, seconds)}\n\n{machine()}")


if __name__ == "__main__":
    main()
