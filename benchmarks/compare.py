"""Paired differences between the stored scores of two runs, clip by clip.

    python -m benchmarks.compare runs/a runs/b
    python -m benchmarks.compare runs/a/eval/vid4_test_00300000.json runs/b --json=difference.json

Of each run the latest scores of every data set that both were scored on (eval/*.json, which
`jaxvsr eval` and the end of a training write). A difference is B - A, the mean over clips. The
interval holds 95 % of the mean differences of 10,000 samples of as many clips, drawn with
replacement: a difference whose interval contains 0 may be one of these clips only.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.common import make_parser
from jaxvsr.errors import InputError
from jaxvsr.evaluation.markdown import markdown
from jaxvsr.files import read_json, write_text

SAMPLES, BLOCK = 10_000, 100  # bootstrap samples, and how many are drawn at once
LEVEL = 95  # percent


@dataclasses.dataclass(frozen=True)
class Scores:
    """The stored scores of a run on a data set.

    Attributes:
        path: of the file.
        origin: the checkpoint and the model.
        protocol: the settings of the evaluation.
        clips: metric -> clip -> mean score; clips without one are left out.
    """

    path: pathlib.Path
    origin: str
    protocol: Mapping[str, Any]
    clips: Mapping[str, Mapping[str, float]]

    @property
    def title(self) -> str:
        """Data set and split."""
        return f"{self.protocol['dataset']} {self.protocol['split']}"


@dataclasses.dataclass(frozen=True)
class Difference:
    """The paired difference of a metric.

    Attributes:
        metric: its name.
        clips: number of clips that both runs have.
        means: of run A and run B.
        difference: the mean of B - A.
        interval: of the difference; (NaN, NaN) for a single clip.
        higher: number of clips on which B has the higher score.
    """

    metric: str
    clips: int
    means: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    higher: int


def read_scores(path: pathlib.Path) -> dict[str, Scores]:
    """Reads the latest scores of a run by data set, or one file of scores.

    Raises:
        InputError: there are no scores, or a file is damaged.
    """
    files = sorted(path.glob("eval/*_????????.json")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no scores: run jaxvsr eval --workdir={path} first")
    scores = [_read(file) for file in files]  # of a data set, the last one is the latest
    return {each.title: each for each in scores}


def _read(path: pathlib.Path) -> Scores:
    stored = read_json(path)
    try:
        name = stored["config"]["model"]["name"]
        clips = {
            metric: {clip: score for clip, score in found["clips"].items() if score is not None}
            for metric, found in stored["scores"][name].items()
        }
        return Scores(path, f"{stored['checkpoint']}, {name}", stored["protocol"], clips)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} holds no scores of jaxvsr eval: {error!r}") from error


def differing(a: Scores, b: Scores) -> str:
    """Describes in a line where two protocols differ; "" if they do not."""
    names = sorted({*a.protocol, *b.protocol})
    pairs = [(name, a.protocol.get(name), b.protocol.get(name)) for name in names]
    return ", ".join(f"{name} {x!r} and {y!r}" for name, x, y in pairs if x != y)


def compare(a: Scores, b: Scores, seed: int = 0) -> list[Difference]:
    """Compares two runs on the clips that both have.

    Args:
        a, b: of the same data set.
        seed: of the bootstrap.

    Raises:
        InputError: there is no clip or no metric that both have.
    """
    found = []
    for metric in a.clips:
        clips = [clip for clip in a.clips[metric] if clip in b.clips.get(metric, {})]
        if not clips:
            continue
        x, y = (np.array([each.clips[metric][clip] for clip in clips]) for each in (a, b))
        interval = bootstrap(y - x, seed)
        means = float(x.mean()), float(y.mean())
        higher = int((y > x).sum())
        found.append(Difference(metric, len(clips), means, float((y - x).mean()), interval, higher))
    if not found:
        raise InputError(f"{a.path} and {b.path} have no clip with a score of the same metric")
    return found


def bootstrap(differences: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Computes the interval of a mean by drawing clips with replacement.

    Args:
        differences: (n,), one per clip.
        seed: of the draws.

    Returns:
        The ends of the interval; NaN for a single clip.

    Source: Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
    """
    count = len(differences)
    if count < 2:
        return np.nan, np.nan
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(0, count, (BLOCK, count)) for _ in range(SAMPLES // BLOCK))
    means = np.concatenate([differences[clips].mean(1) for clips in drawn])
    low, high = np.percentile(means, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def table(differences: Sequence[Difference]) -> str:
    """Formats differences in Markdown, a row per metric."""
    rows = [
        [
            each.metric,
            *(f"{mean:.4f}" for mean in each.means),
            f"{each.difference:+.4f}",
            "none" if np.isnan(each.interval[0]) else "{:+.4f} to {:+.4f}".format(*each.interval),
            f"{each.higher} of {each.clips}",
        ]
        for each in differences
    ]
    return markdown(["", "A", "B", "B - A", f"{LEVEL} % interval", "B higher, clips"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a table for each data set that both runs were scored on."""
    parser = make_parser("compare", __doc__)
    parser.add_argument("a", type=pathlib.Path, help="a run's folder, or a file of scores")
    parser.add_argument("b", type=pathlib.Path, help="likewise; differences are B - A")
    parser.add_argument("--json", type=pathlib.Path, help="a file to write all results to")
    options = parser.parse_args(argv)
    try:
        results = _compare_all(options.a, options.b)
    except InputError as error:
        raise SystemExit(f"compare: {error}") from error
    if options.json:
        write_text(options.json, json.dumps(results, indent=2) + "\n")


def _compare_all(path_a: pathlib.Path, path_b: pathlib.Path) -> dict[str, list[dict]]:
    """Prints the tables; returns the differences by data set."""
    runs_a, runs_b = read_scores(path_a), read_scores(path_b)
    titles = [title for title in runs_a if title in runs_b]
    if not titles:
        raise InputError(
            f"no data set was scored in both: {', '.join(runs_a)} in {path_a}; "
            f"{', '.join(runs_b)} in {path_b}"
        )
    results = {}
    for title in titles:
        a, b = runs_a[title], runs_b[title]
        found = compare(a, b)
        print(f"{title}\nA: {a.origin}\nB: {b.origin}")
        if differ := differing(a, b):
            print(f"the protocols differ: {differ}")
        print(f"\n{table(found)}\n")
        results[title] = [
            {
                **dataclasses.asdict(each),
                "interval": None if np.isnan(each.interval[0]) else each.interval,
            }
            for each in found
        ]
    return results


if __name__ == "__main__":
    main()
