"""Memory of each device where several share a frame, by the compiler; nothing is executed.

    python -m benchmarks.space                    # BasicVSR++, MIA-VSR, RVRT; minutes
    python -m benchmarks.space swrn --frames=30

Compiles the inference of a clip for 1 device, for 2 and 4 devices that share its rows, and of
frames with four times the pixels for 4 devices. The memory is a device's temporaries and its part
of the output, of a program for CPUs. MIA-VSR has 6 of its 24 blocks per branch, which shortens
compilation.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

if __name__ == "__main__":  # before JAX starts
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp

from benchmarks.common import make_parser
from jaxvsr import models
from jaxvsr.distributed import spatial_sharding
from jaxvsr.distributed.mesh import make_mesh, placed, split_batch
from jaxvsr.evaluation.markdown import markdown

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "basicvsrpp": {},
    "miavsr": {"depths": (6,), "num_heads": (6,)},
    "rvrt": {},
}


def memory(name: str, size: tuple[int, int], frames: int, devices: int) -> int:
    """Bytes that each of several devices needs to restore a clip together."""
    model = models.create(name, **NETWORKS.get(name, {}))
    mesh = make_mesh(jax.devices()[:devices], devices)

    def restore(variables: Any, lq: jax.Array) -> Any:
        return model.apply(variables, models.network_input(model, lq))

    clip = models.example(model, frames, *size)
    variables = placed(jax.eval_shape(model.init, jax.random.key(0), clip), mesh)
    lq = jax.ShapeDtypeStruct((1, frames, *size, 3), jnp.uint8, sharding=split_batch(mesh))
    function = restore if devices == 1 else spatial_sharding.by_rows(restore, mesh)
    need: Any = jax.jit(function).lower(variables, lq).compile().memory_analysis()
    return need.temp_size_in_bytes + need.output_size_in_bytes


def main(argv: Sequence[str] | None = None) -> None:
    """Compiles and prints the table."""
    parser = make_parser("space", __doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help="names of models")
    parser.add_argument("--frames", type=int, default=10, help="frames of the clip")
    parser.add_argument("--size", type=int, nargs=2, default=(180, 320), help="height, width")
    options = parser.parse_args(argv)
    height, width = options.size
    large = (2 * height, 2 * width)
    cases = ((height, width), 1), ((height, width), 2), ((height, width), 4), (large, 4)
    heads = [f"{h}x{w}, {devices} device{'s' * (devices > 1)}" for (h, w), devices in cases]
    rows = []
    for name in options.networks:
        needs = [memory(name, size, options.frames, devices) for size, devices in cases]
        rows.append([name, *(f"{n / 2**20:,.0f} ({n / needs[0]:.2f})" for n in needs)])
        print(*rows[-1], flush=True)
    print(f"\n{options.frames} frames, float32: MiB per device (relative to one device)\n")
    print(markdown(["network", *heads], rows))
    print(f"\nPython {platform.python_version()}, JAX {jax.__version__}")


if __name__ == "__main__":
    main()
