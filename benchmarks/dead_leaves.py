"""Processor time of rendering dead leaves, beside that of another version of the renderer.

    git worktree add /tmp/before 'HEAD^{/Add still cameras, holds}~1'      # version 2
    python -m benchmarks.dead_leaves --before=/tmp/before

Both versions render clips of the sizes of `dead_leaves/small` and `large` alternately, each clip in
a process of its own with one thread. The table has seconds of processor time, so that other
programs hardly matter. Four neighboring clips have all kinds of motion.
"""

import argparse
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.common import machine, make_parser
from jaxvsr.evaluation.markdown import markdown
from tfds_builders.dead_leaves.dead_leaves_dataset_builder import Builder

ROOT = pathlib.Path(__file__).parents[1]
PROGRAM = """
import sys, time
from tfds_builders.dead_leaves import render
index, frames, *size = map(int, sys.argv[1:])
begin = time.process_time()
render.render_clip(0, "train", index, frames, tuple(size))
print(time.process_time() - begin)
"""


def seconds(tree: pathlib.Path, index: int, frames: int, size: tuple[int, int]) -> float:
    """Processor time of rendering a clip by the renderer of a checkout."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    words = [str(word) for word in (index, frames, *size)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=tree,
        env={**os.environ, **threads, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def measure(given: argparse.Namespace, name: str) -> list[str]:
    """Table row of a config of the data set: seconds a clip before and now, and in all."""
    (config,) = (config for config in Builder.BUILDER_CONFIGS if config.name == name)
    frames, size = config.num_frames, config.frame_size
    totals = dict.fromkeys((given.before, ROOT), 0.0)
    for index in range(given.clips):
        for tree in totals:
            totals[tree] += seconds(tree, index, frames, size)
    before, now = (total / given.clips for total in totals.values())
    count = config.num_train + config.num_val
    hours = count * now / 3600
    return [
        name,
        f"{frames} frames of {size[0]}x{size[1]}",
        f"{before:.2f}",
        f"{now:.2f}",
        f"{now / before:.2f}",
        f"{count:,}",
        f"{hours:.2f}",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measures both versions and prints a table."""
    parser = make_parser("dead_leaves", __doc__)
    parser.add_argument("--before", type=pathlib.Path, required=True, help="checkout to compare")
    parser.add_argument("--clips", type=int, default=4, help="rendered of each config")
    parser.add_argument("--configs", nargs="+", default=["small", "large"])
    given = parser.parse_args(argv)
    heads = ["config", "clip", "before (s)", "now (s)", "ratio", "clips in all", "hours in all"]
    print(markdown(heads, [measure(given, name) for name in given.configs]))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
