"""Peak memory of upscaling a video file against the video's length.

    python -m benchmarks.upscale [--height=180 --width=320 --short=200 --long=2000]

Each video is upscaled by an SWRN of random weights, in its own process. Also prints the fraction of
the time in which the network waited for the reader or the writer. Needs `jaxvsr[video]`.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import jax
import numpy as np

from benchmarks.common import machine, make_parser
from jaxvsr import models
from jaxvsr.upscaling.pipeline import upscale_file
from jaxvsr.upscaling.request import Request


def write(path: pathlib.Path, length: int, height: int, width: int) -> None:
    """Writes a video of a moving texture."""
    import av

    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (height // 4 + 32, width // 4 + 32, 3), np.uint8)
    texture = texture.repeat(4, 0).repeat(4, 1)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for i in range(length):
            top, left = i % 97, i % 113
            pixels = np.ascontiguousarray(texture[top : top + height, left : left + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def upscale(source: pathlib.Path) -> None:
    """Upscales a video and prints the process's peak memory in MiB."""
    model = models.create("swrn")
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 2, 64, 64, 3), np.float32))
    output = source.with_name("out.mp4")
    upscale_file(source, output, model, variables, Request(overwrite=True), {})
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints a line per length."""
    parser = make_parser("upscale", __doc__)
    for name, default in (("height", 180), ("width", 320), ("short", 200), ("long", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--upscale", type=pathlib.Path, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.upscale:
        upscale(given.upscale)
        return
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for length in (given.short, given.long):
            source = pathlib.Path(folder) / f"{length}.mp4"
            write(source, length, given.height, given.width)
            command = [sys.executable, "-m", "benchmarks.upscale", f"--upscale={source}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            *lines, peak = done.stdout.strip().splitlines()
            peaks.append(int(peak))
            print(f"{length} frames: {lines[-2]}; peak {peak} MiB", flush=True)
    ratio = peaks[1] / peaks[0]
    print(f"peak memory of {given.long} frames / of {given.short}: {ratio:.3f}\n{machine()}")


if __name__ == "__main__":
    main()
