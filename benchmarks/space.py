"""The memory of each device where several share a frame, as the compiler says: nothing is run.

    python benchmarks/space.py                    # BasicVSR++, MIA-VSR, RVRT; minutes
    python benchmarks/space.py swrn --frames 30

A clip is restored whole by one device and by two and four that share its rows; and one of frames
four times as large by four. What a device needs are the temporaries and its share of the image, of
a program for CPUs. MIA-VSR has six of its 24 blocks a branch, or compiling would take an hour.
"""

import argparse
import os
import platform
from collections.abc import Mapping
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp

from jaxvsr import models
from jaxvsr.distributed import spatial_sharding
from jaxvsr.distributed.mesh import make_mesh, placed, split_batch

SIZE = (180, 320)
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "basicvsrpp": {},
    "miavsr": {"depths": (6,), "num_heads": (6,)},
    "rvrt": {},
}


def memory(name: str, size: tuple[int, int], frames: int, devices: int) -> int:
    """Bytes that each of several devices needs to restore a clip together."""
    model = models.create(name, **NETWORKS.get(name, {}))
    mesh = make_mesh(jax.devices()[:devices], devices)

    def run(variables: Any, lq: jax.Array) -> jax.Array:
        return model.apply(variables, models.network_input(model, lq))

    clip = models.example(model, frames, *size)
    variables = placed(jax.eval_shape(model.init, jax.random.key(0), clip), mesh)
    lq = jax.ShapeDtypeStruct((1, frames, *size, 3), jnp.uint8, sharding=split_batch(mesh))
    function = run if devices == 1 else spatial_sharding.by_rows(run, mesh)
    need: Any = jax.jit(function).lower(variables, lq).compile().memory_analysis()
    return need.temp_size_in_bytes + need.output_size_in_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--frames", type=int, default=10, help="of the clip")
    options = parser.parse_args()
    height, width = SIZE
    double = (2 * height, 2 * width)
    cases = (SIZE, 1), (SIZE, 2), (SIZE, 4), (double, 4)
    heads = [f"{h}x{w}, {devices} device{'s' * (devices > 1)}" for (h, w), devices in cases]
    print(f"{options.frames} frames, float32: MiB a device (over those of one)\n")
    print(f"| network | {' | '.join(heads)} |\n|{'---|' * (len(cases) + 1)}")
    for name in options.networks:
        needs = [memory(name, size, options.frames, devices) for size, devices in cases]
        cells = [f"{need / 2**20:,.0f} ({need / needs[0]:.2f})" for need in needs]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(f"\nPython {platform.python_version()}, JAX {jax.__version__}")


if __name__ == "__main__":
    main()
