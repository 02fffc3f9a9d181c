"""Upscaling from file to file: memory against the length of the video, and who waits for whom.

    python benchmarks/upscale.py [--height=180 --width=320 --short=200 --long=2000]

Each video is restored by an SWRN of random weights, in a process of its own.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile

import jax
import numpy as np

from jaxvsr import models
from jaxvsr.upscaling.pipeline import upscale_file
from jaxvsr.upscaling.request import Request


def write(path: pathlib.Path, length: int, height: int, width: int) -> None:
    """Writes a video of a texture that moves."""
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


def restore(source: pathlib.Path) -> None:
    """Restores a video, and prints the most memory that was held, MiB."""
    model = models.create("swrn")
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 2, 64, 64, 3), np.float32))
    output = source.with_name("out.mp4")
    upscale_file(source, output, model, variables, Request(overwrite=True), {})
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    """Prints a line a length."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("height", 180), ("width", 320), ("short", 200), ("long", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--restore", type=pathlib.Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.restore:
        restore(given.restore)
        return
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for length in (given.short, given.long):
            source = pathlib.Path(folder) / f"{length}.mp4"
            write(source, length, given.height, given.width)
            command = [sys.executable, __file__, f"--restore={source}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            *lines, peak = done.stdout.strip().splitlines()
            peaks.append(int(peak))
            print(f"{length} frames: {lines[-2]}; {peak} MiB at most", flush=True)
    print(f"memory of {given.long} frames over that of {given.short}: {peaks[1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
