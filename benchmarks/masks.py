"""Gated against dense computation of masked blocks, in one run.

    python benchmarks/masks.py                     # two blocks of 180x320, minutes
    python benchmarks/masks.py --network           # MIA-VSR, 10 frames of 180x320, half an hour

Blocks are MIA-VSR's: dim 120, 6 heads, windows of 8x8 of three frames, one at the origin and one
shifted, two steps of a recurrence. Masks are forced: round areas, as trained predictors draw them,
or scattered tokens. Gated is timed right after dense, since other work on the machine slows either;
a ratio is the median over the rounds. A branch's first frame is computed in whole.
"""

import argparse
import functools
import pathlib
import platform
from typing import Any

import jax
import jax.numpy as jnp

from jaxvsr import models
from jaxvsr.models.iiavsr import neighbours
from jaxvsr.models.miavsr import MIABlock
from jaxvsr.profiling import mask_sweep
from jaxvsr.video.images import write_image

SIZE = HEIGHT, WIDTH = 180, 320
DIM, HEADS, WINDOW = 120, 6, (3, 8, 8)
SHARES = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
STEPS = 2


def blocks(gating: str) -> mask_sweep.Program:
    """Two masked blocks of random weights on random frames, `STEPS` times."""
    key = jax.random.key(0)
    x, *others = jax.random.normal(key, (3, 1, HEIGHT, WIDTH, DIM))
    cond = neighbours(jnp.stack(others, axis=1), WINDOW, jnp.float32)
    state = MIABlock.initial_state(x, WINDOW)
    pair = [
        MIABlock(HEADS, WINDOW, shifted, 2.0, False, jnp.float32, gating=gating)
        for shifted in (False, True)
    ]
    again = jnp.array(False)
    variables = [jax.jit(block.init)(key, x, cond, state, again) for block in pair]

    @jax.jit
    def run(variables: Any, x: jax.Array, cond: Any, state: Any, mask: jax.Array) -> Any:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            x, states = carry
            new = []
            for block, weights, old in zip(pair, variables, states, strict=True):
                x, remembered = block.apply(weights, x, cond, old, again)
                new.append(remembered)
            return (x, new), None

        with mask_sweep.forced_masks(mask):
            return jax.lax.scan(step, (x, [state, state]), length=STEPS)[0]

    compiled = run.lower(variables, x, cond, state, jnp.zeros(SIZE)).compile()
    return functools.partial(compiled, variables, x, cond, state)


def machine() -> str:
    """The processor, its cores and the libraries' versions."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    name = f"{len(names)} cores of {names[0]}" if names else platform.processor()
    device = "" if jax.default_backend() == "cpu" else f"{jax.devices()[0].device_kind}; "
    return f"{device}{name}; Python {platform.python_version()}, JAX {jax.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="store_true", help="the whole network, not a block")
    parser.add_argument("--frames", type=int, default=10, help="of the network's clip")
    parser.add_argument("--rounds", type=int, help="times that each is timed; 5, the network 1")
    parser.add_argument("--plot", type=pathlib.Path, help="a PNG that receives the ratios")
    options = parser.parse_args()
    if options.network:
        model = models.create("miavsr")
        lq = jax.random.uniform(jax.random.key(0), (1, options.frames, *SIZE, 3))
        variables = jax.jit(model.init)(jax.random.key(1), lq[:, :1])
        programs = mask_sweep.network(model, variables, lq)
        wanted, rounds = [("blobs", 0.3)], options.rounds or 1
        what = f"MIA-VSR, {options.frames} frames of {HEIGHT}x{WIDTH}"
    else:
        programs = blocks("dense"), blocks("bucketed")
        wanted = [(kind, share) for kind in mask_sweep.KINDS for share in SHARES]
        rounds, what = options.rounds or 5, f"A block, {HEIGHT}x{WIDTH}"
    rows = mask_sweep.compare(*programs, SIZE, wanted, rounds)
    print(f"{what}, float32, {rounds} rounds:\n\n{mask_sweep.table(rows)}\n\n{machine()}")
    if options.plot:
        print(write_image(options.plot, mask_sweep.chart(rows)))


if __name__ == "__main__":
    main()
