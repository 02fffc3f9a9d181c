"""Kills trainings and upscalings at random instants, and compares their final results.

    python -m benchmarks.soak --kills=1000 --out=benchmarks/results/soak.md
    make soak KILLS=1000

A run is killed (SIGKILL) up to five times, each time at a random instant, started again by the
command that a user would type, and at last left alone. A training must then have reported the same
numbers, to the last digit, and saved the same weights as one that was never killed; an upscaled
video or folder of images must have the same frames and sound. After each kill of an upscaling its
output must be the one that was there before, the new one, or missing with a run to resume.

Runs are forked from one process that has loaded the libraries, so that a run takes seconds.
"""

import collections
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import tempfile
import time
from fractions import Fraction
from typing import Protocol

import av
import numpy as np

from benchmarks.common import forked, machine, make_parser
from jaxvsr import cli, prepare, upscale
from jaxvsr import main as train_command
from jaxvsr.config import load_config
from jaxvsr.evaluation.markdown import markdown
from jaxvsr.preflight import create_model
from jaxvsr.training.checkpoints import load_best

KILLS_PER_RUN = 5
RUNS = (1, 4, 4)  # of each case in an iteration: a training takes ten times as long
FRAMES, HEIGHT, WIDTH = 24, 48, 64
CONFIG = "swrn:tiny"
TRAINING = {
    "data.dataset": "dead_leaves/test",
    "data.frames": "3",
    "data.crop": "32",
    "data.batch": "4",
    "data.workers": "0",
    "eval.dataset": "dead_leaves/test",
    "eval.every": "6",
    "train.steps": "12",
    "train.log_every": "1",
    "train.checkpoint_every": "2",
}
FLAGS = (["--resume"], ["--overwrite"], ["--resume", "--overwrite"])


class Case(Protocol):
    """A kind of run. Its folder is empty at first."""

    @property
    def name(self) -> str: ...

    def start(self, folder: pathlib.Path, rng: random.Random) -> None:
        """Prepares the folder."""

    def execute(self, folder: pathlib.Path, again: bool, rng: random.Random) -> int:
        """Runs the command, for the first time or again; returns its exit code."""

    def finish(self, folder: pathlib.Path) -> int:
        """Runs the command as a user would who wants it to end."""

    def intact(self, folder: pathlib.Path, expected: str) -> bool:
        """Whether nothing is lost after a kill."""

    def result(self, folder: pathlib.Path) -> str:
        """Digest of the files that the run made; computed in a forked process."""


@dataclasses.dataclass(frozen=True)
class Training:
    """A training of 12 steps with two evaluations and six checkpoints."""

    data_dir: pathlib.Path
    name: str = "training"

    def start(self, folder: pathlib.Path, rng: random.Random) -> None:
        del folder, rng

    def execute(self, folder: pathlib.Path, again: bool, rng: random.Random) -> int:
        del again, rng
        return self.finish(folder)

    def finish(self, folder: pathlib.Path) -> int:
        fields = {"data.dir": str(self.data_dir), **TRAINING}
        words = [f"--config={CONFIG}", f"--workdir={folder}/run"]
        words += [f"--config.{name}={value}" for name, value in fields.items()]
        return cli.run_command(train_command.command("train"), words)

    def intact(self, folder: pathlib.Path, expected: str) -> bool:
        del folder, expected
        return True  # seen at the end: a lost checkpoint would repeat steps of other numbers

    def result(self, folder: pathlib.Path) -> str:
        run, reported = folder / "run", dict[int, dict]()
        for line in (run / "metrics.jsonl").read_text().splitlines():
            values = {k: v for k, v in json.loads(line).items() if not k.startswith("time/")}
            reported.setdefault(values["step"], {}).update(values)
        config = load_config(CONFIG, TRAINING)
        step, variables, _ = load_best(config, create_model(config), run)
        arrays = [np.asarray(x).tobytes() for x in _leaves(variables)]
        text = json.dumps([step, sorted(reported.items())], sort_keys=True).encode()
        return hashlib.sha256(b"".join([text, *arrays])).hexdigest()


@dataclasses.dataclass(frozen=True)
class Upscaling:
    """An upscaling of a video by a network with a state, in twelve segments."""

    source: pathlib.Path
    output: str

    name: str

    def start(self, folder: pathlib.Path, rng: random.Random) -> None:
        if rng.random() < 0.5:
            output = folder / self.output
            if output.suffix:
                output.write_bytes(b"old")
            else:
                output.mkdir()
                (output / "0.png").write_bytes(b"old")

    def execute(self, folder: pathlib.Path, again: bool, rng: random.Random) -> int:
        first = ["--overwrite"] if (folder / self.output).exists() else []
        return self._upscale(folder, rng.choice(FLAGS) if again else first)

    def finish(self, folder: pathlib.Path) -> int:
        return self._upscale(folder, ["--resume", "--overwrite"])

    def intact(self, folder: pathlib.Path, expected: str) -> bool:
        output = folder / self.output
        if not output.exists():
            return output.with_name(output.name + ".parts").exists() or not any(folder.iterdir())
        old = output if output.suffix else output / "0.png"
        if old.exists() and old.read_bytes() == b"old":
            return True
        return self.result(folder) == expected

    def result(self, folder: pathlib.Path) -> str:
        path, digest = folder / self.output, hashlib.sha256()
        if not path.suffix:
            for image in sorted(path.iterdir()):
                digest.update(image.name.encode() + image.read_bytes())
            return digest.hexdigest()
        with av.open(path) as container:
            for frame in container.decode(video=0):
                digest.update(f"{frame.time}".encode() + frame.to_ndarray(format="rgb24").tobytes())
        with av.open(path) as container:
            for packet in container.demux(audio=0):
                digest.update(f"{packet.pts}".encode() + bytes(packet))
        return digest.hexdigest()

    def _upscale(self, folder: pathlib.Path, flags: list[str]) -> int:
        lossless = ["--lossless"] if pathlib.Path(self.output).suffix else []
        words = [str(self.source), str(folder / self.output), "--segment=2", "--chunk=2"]
        return cli.run_command(upscale.command("upscale"), [*words, *lossless, *flags])


def _leaves(tree: dict) -> list:
    """The arrays of nested dicts, by their names."""
    return [
        leaf
        for _, value in sorted(tree.items())
        for leaf in (_leaves(value) if isinstance(value, dict) else [value])
    ]


def _processor_seconds(process: int) -> float:
    """Time that a process has computed, which unlike the clock does not depend on other ones."""
    try:
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def result_of(case: Case, folder: pathlib.Path, log: pathlib.Path) -> str:
    """`case.result` from a forked process; "" if it fails."""
    path = log.with_suffix(".result")
    path.unlink(missing_ok=True)

    def write() -> None:
        path.write_text(case.result(folder))

    code = forked(write, log)
    return "" if code else path.read_text()


@dataclasses.dataclass(frozen=True)
class Reference:
    """A run that was never killed.

    Attributes:
        result: digest.
        seconds: of processor time.
    """

    result: str
    seconds: float


def reference(case: Case, folder: pathlib.Path, log: pathlib.Path) -> Reference:
    """Runs a case twice, the second time with everything compiled."""
    for _ in range(2):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        begin = resource.getrusage(resource.RUSAGE_CHILDREN)
        if forked(lambda: case.finish(folder), log):
            raise SystemExit(f"{case.name} failed without a kill:\n{log.read_text()}")
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime
    return Reference(result_of(case, folder, log), seconds)


def soak(
    case: Case,
    expected: Reference,
    folder: pathlib.Path,
    log: pathlib.Path,
    rng: random.Random,
    counts: collections.Counter,
) -> None:
    """Kills one run up to five times, and lets it finish.

    Args:
        case: the kind of run.
        expected: of `reference`.
        folder: for the run.
        log: receives the output.
        rng: draws the instants.
        counts: "runs", "kills", "differing" results, "lost" outputs, "failed" last starts.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    case.start(folder, rng)
    for attempt in range(KILLS_PER_RUN):
        instant = rng.uniform(0, expected.seconds)
        drawn = random.Random(rng.random())
        again = attempt > 0

        def reached(process: int, instant: float = instant) -> bool:
            return _processor_seconds(process) >= instant

        code = forked(lambda: case.execute(folder, again, drawn), log, reached)  # noqa: B023
        if code == -signal.SIGKILL:
            counts["kills"] += 1
            counts["lost"] += not case.intact(folder, expected.result)
    counts["failed"] += forked(lambda: case.finish(folder), log) != 0
    counts["runs"] += 1
    counts["differing"] += result_of(case, folder, log) != expected.result


def write_source(path: pathlib.Path) -> None:
    """Writes a video of moving stripes with sound."""
    with av.open(path, "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = HEIGHT, WIDTH, "bgr0"
        audio = container.add_stream("aac", rate=44100, layout="mono")
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        for i in range(FRAMES):
            pixels = np.stack([rows * 5 + i, columns * 3 - i, rows + columns + 7 * i], -1) % 256
            frame = av.VideoFrame.from_ndarray(pixels.astype(np.uint8), format="rgb24")
            container.mux(video.encode(frame.reformat(format="bgr0")))
            wave = np.sin(np.arange(i * 1764, (i + 1) * 1764) / 10).astype(np.float32)[None] / 4
            sound = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 44100, i * 1764, Fraction(1, 44100)
            container.mux(audio.encode(sound))
        container.mux([*video.encode(), *audio.encode()])


def report(counts: dict[str, collections.Counter], command: str) -> str:
    """Formats the counts as a Markdown page."""
    columns = ("runs", "kills", "differing", "lost", "failed")
    rows = [[name, *(f"{count[column]:,}" for column in columns)] for name, count in counts.items()]
    total = [str(sum(count[column] for count in counts.values())) for column in columns]
    heads = ["", "runs", "kills", "differing results", "lost outputs", "failed last starts"]
    return (
        "# Kills at random instants\n\n"
        f"    {command}\n\n"
        f"{(__doc__ or '').split(chr(10) * 2, 3)[2]}\n\n"
        f"{markdown(heads, [*rows, ['all', *total]])}\n\n"
        f"{machine()}\n"
    )


def main() -> None:
    """Kills runs until there are enough kills or no time left, and prints a table."""
    parser = make_parser("soak", __doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, help="Markdown file to write")
    args = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory(prefix="soak") as scratch:
        top = pathlib.Path(scratch)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(top / "compiled"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        log, run = top / "log.txt", top / "run"
        write_source(top / "in.mkv")
        if forked(lambda: prepare.prepare("dead_leaves/test", data_dir=str(top)), log):
            raise SystemExit(log.read_text())
        cases: list[Case] = [
            Training(top),
            Upscaling(top / "in.mkv", "out.mkv", "upscaling to a video"),
            Upscaling(top / "in.mkv", "out", "upscaling to images"),
        ]
        expected = [reference(case, run, log) for case in cases]
        print({case.name: known for case, known in zip(cases, expected, strict=True)}, flush=True)
        rng = random.Random(args.seed)
        counts = {case.name: collections.Counter[str]() for case in cases}
        begin = time.monotonic()
        in_turn = itertools.cycle(
            [
                (case, known)
                for case, known, runs in zip(cases, expected, RUNS, strict=True)
                for _ in range(runs)
            ]
        )
        for case, known in in_turn:
            count = counts[case.name]
            soak(case, known, run, log, rng, count)
            seconds = time.monotonic() - begin
            print(f"{seconds:.0f} s", case.name, dict(count), flush=True)
            if count["differing"] + count["lost"] + count["failed"]:
                print(log.read_text()[-3000:])
            log.unlink(missing_ok=True)
            kills = sum(count["kills"] for count in counts.values())
            if kills >= args.kills or seconds >= 60 * args.minutes:
                break
    command = f"python -m benchmarks.soak --kills={args.kills} --seed={args.seed}"
    if args.minutes < float("inf"):
        command += f" --minutes={args.minutes:g}"
    text = report(counts, command)
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
