"""Time of gated against dense computation of masked blocks.

    python -m benchmarks.masks                     # two blocks of 180x320: minutes
    python -m benchmarks.masks --network           # MIA-VSR, 10 frames of 180x320: half an hour
    python -m benchmarks.masks --demo=runs/demo    # the masks of `make demo` against their bars

The blocks are MIA-VSR's: dim 120, 6 heads, windows of 8x8 in three frames, one at the origin and
one shifted, over two steps of the recurrence. Masks are forced: round areas, as trained predictors
draw them, or scattered tokens. Gated and dense calls are timed alternately; a ratio is the median
over the rounds. A branch's first frame is computed whole.

With --demo, masks are those of the trained network. Its video with a still camera is a mosaic of
four frames of the validation set, of which a sixteenth moves; times are those of its second half.
"""

import functools
import itertools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import machine, make_parser
from jaxvsr import models
from jaxvsr.config import load_config
from jaxvsr.evaluation import mask_areas
from jaxvsr.layers.window_transformer import neighbor_windows
from jaxvsr.models.miavsr import MIABlock, initial_memory
from jaxvsr.preflight import preflight
from jaxvsr.profiling import mask_sweep
from jaxvsr.training.checkpoints import load_best
from jaxvsr.upscaling.stream import Settings, Stream
from jaxvsr.video.images import write_image
from jaxvsr.video.reading import Frame

DIM, HEADS, WINDOW = 120, 6, (3, 8, 8)
FRACTIONS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
STEPS = 2
CHUNK, OVERLAP, CHUNKS = 10, 2, 6  # frames per chunk, frames that chunks share, and chunks


def blocks(gating: str, size: tuple[int, int]) -> mask_sweep.Program:
    """Two masked blocks of random weights on random frames, `STEPS` times."""
    key = jax.random.key(0)
    frames = jax.random.normal(key, (1, 3, *size, DIM))
    x, neighbors = frames[:, 2:], neighbor_windows(frames[:, :2], WINDOW, jnp.float32)
    memory = initial_memory(x, WINDOW)._replace(exists=jnp.array(True))
    pair = [
        MIABlock(
            num_heads=HEADS,
            window_size=WINDOW,
            shifted=shifted,
            mlp_ratio=2.0,
            train=False,
            dtype=jnp.float32,
            gating=gating,
        )
        for shifted in (False, True)
    ]
    variables = [jax.jit(block.init)(key, x, neighbors, 0.0, memory) for block in pair]

    @jax.jit
    def steps(variables: Any, x: jax.Array, neighbors: Any, memory: Any, mask: jax.Array) -> Any:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            x, memories = carry
            new = []
            for block, weights, old in zip(pair, variables, memories, strict=True):
                x, remembered = block.apply(weights, x, neighbors, 0.0, old)
                new.append(remembered)
            return (x, new), None

        with mask_sweep.forced_masks(mask):
            return jax.lax.scan(step, (x, [memory, memory]), length=STEPS)[0]

    compiled = steps.lower(variables, x, neighbors, memory, jnp.zeros(size)).compile()
    return functools.partial(compiled, variables, x, neighbors, memory)


def demo(workdir: pathlib.Path, data_dir: str) -> None:
    """Prints the measurements of a trained tiny MIA-VSR."""
    overrides = {"data.dir": data_dir} if data_dir else {}
    config = load_config("configs/miavsr.py:tiny", overrides)
    opened = preflight(config, workdir, train=False)
    source = opened.eval_source
    _, variables, _ = load_best(config, opened.model, workdir)
    report = mask_areas.measure(opened.model, source, config.eval, variables)
    print(f"{report.table()}\n")
    print(f"blocks that keep less than 2 % or more than 98 %: {report.extreme:.0%}\n")
    video = still_camera([source.read(i, range(10))["lq"] for i in range(4)])
    unmasked = opened.model.clone(use_mask=False)
    wall, work = video_time(opened.model, variables, video)
    wall_unmasked, work_unmasked = video_time(unmasked, variables, video)
    print(
        f"upscale, {len(video)} frames of 128x128, still camera: {wall / wall_unmasked:.2f} of the "
        f"time without masks, {work / work_unmasked:.2f} of the processor time\n\n{machine()}"
    )


def still_camera(clips: Sequence[np.ndarray]) -> np.ndarray:
    """Makes a video whose ground stands still and in whose middle a square moves.

    Args:
        clips: four of (t, 64, 64, 3) uint8.

    Returns:
        (t', 128, 128, 3) uint8.
    """
    a, b, c, d = (clip[0] for clip in clips)
    ground = np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)])
    length = CHUNK + (CHUNKS - 1) * (CHUNK - OVERLAP)
    video = np.repeat(ground[None], length, 0)
    there_and_back = np.concatenate([clips[0], clips[0][-2:0:-1]])
    video[:, 48:80, 48:80] = there_and_back[np.arange(length) % len(there_and_back), 16:48, 16:48]
    return video


def video_time(model: Any, variables: Any, video: np.ndarray) -> np.ndarray:
    """Wall and processor time of the second half of a video, as `jaxvsr upscale` computes it."""
    frames = itertools.starmap(Frame, zip(video, itertools.count(), strict=False))
    settings = Settings(chunk=CHUNK, overlap=OVERLAP, gated=None)
    stream = Stream(model, variables, frames, settings, devices=jax.devices()[:1])
    times = [[time.perf_counter(), time.process_time()] for _ in stream.outputs()]
    return np.subtract(times[-1], times[len(times) // 2])


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints the table."""
    parser = make_parser("masks", __doc__)
    parser.add_argument("--network", action="store_true", help="the whole network, not two blocks")
    parser.add_argument("--demo", type=pathlib.Path, help="folder of a run of `make demo`")
    parser.add_argument("--data_dir", default="", help="folder of the TFDS data sets, for --demo")
    parser.add_argument("--frames", type=int, default=10, help="frames of the network's clip")
    parser.add_argument("--size", type=int, nargs=2, default=(180, 320), help="height, width")
    parser.add_argument("--rounds", type=int, help="timed calls; default 5, 1 with --network")
    parser.add_argument("--plot", type=pathlib.Path, help="PNG file for a plot of the ratios")
    options = parser.parse_args(argv)
    if options.demo:
        demo(options.demo, options.data_dir)
        return
    height, width = size = tuple(options.size)
    if options.network:
        model = models.create("miavsr")
        lq = jax.random.uniform(jax.random.key(0), (1, options.frames, *size, 3))
        variables = jax.jit(model.init)(jax.random.key(1), lq[:, :1])
        programs = mask_sweep.network(model, variables, lq)
        wanted, rounds = [("blobs", 0.3)], options.rounds or 1
        title = f"MIA-VSR, {options.frames} frames of {height}x{width}"
    else:
        programs = blocks("dense", size), blocks("bucketed", size)
        wanted = [(kind, fraction) for kind in mask_sweep.KINDS for fraction in FRACTIONS]
        rounds, title = options.rounds or 5, f"Two blocks, {height}x{width}"
    rows = mask_sweep.compare(*programs, size, wanted, rounds)
    print(f"{title}, float32, {rounds} rounds:\n\n{mask_sweep.table(rows)}\n\n{machine()}")
    if options.plot:
        print(write_image(options.plot, mask_sweep.chart(rows)))


if __name__ == "__main__":
    main()
