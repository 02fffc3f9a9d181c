"""Descriptions of NVIDIA's GPUs, by which XLA compiles for one that is not there."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxvsr.errors import InputError

# There is no GPU to time kernels on; and without timing, XLA's own matrix products fail to compile
# for some widths, so that those of cuBLAS are used.
COMPILER_OPTIONS = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU, from NVIDIA's data sheets and the tables of the CUDA programming guide.

    Attributes:
        kind: JAX's `device_kind`.
        capability: compute capability.
        memory: bytes.
        bandwidth: of the memory, bytes per second.
        cores: streaming multiprocessors.
        units: of float32 arithmetic in each.
        clock: boost clock, GHz.
        cache: bytes of the L2 cache.
        shared: bytes of shared memory in each multiprocessor; a block has 1 KiB less.
        threads: in each multiprocessor at once.
    """

    kind: str
    capability: tuple[int, int]
    memory: int
    bandwidth: float
    cores: int
    units: int
    clock: float
    cache: int
    shared: int
    threads: int

    @property
    def description(self) -> str:
        """The text proto from which XLA makes the target of a compilation."""
        major, minor = self.capability
        return f"""
            gpu_device_info {{
              threads_per_block_limit: 1024
              threads_per_warp: 32
              shared_memory_per_block: 49152
              shared_memory_per_block_optin: {self.shared - 1024}
              shared_memory_per_core: {self.shared}
              threads_per_core_limit: {self.threads}
              core_count: {self.cores}
              fpus_per_core: {self.units}
              block_dim_limit_x: 2147483647
              block_dim_limit_y: 65535
              block_dim_limit_z: 65535
              memory_bandwidth: {self.bandwidth:.0f}
              l2_cache_size: {self.cache}
              clock_rate_ghz: {self.clock}
              device_memory_size: {self.memory}
              registers_per_core_limit: 65536
              registers_per_block_limit: 65536
              cuda_compute_capability {{ major: {major} minor: {minor} }}
            }}
            platform_name: "CUDA"
            dnn_version_info {{ major: 9 minor: 10 }}
            runtime_version {{ major: 13 }}
            device_description_str: "{self.kind}"
        """


_MIB, _KIB = 2**20, 2**10
GPUS = {
    "a100": Gpu(
        kind="NVIDIA A100-SXM4-80GB",
        capability=(8, 0),
        memory=80 * 10**9,
        bandwidth=2039e9,
        cores=108,
        units=64,
        clock=1.41,
        cache=40 * _MIB,
        shared=164 * _KIB,
        threads=2048,
    ),
    "h100": Gpu(
        kind="NVIDIA H100 80GB HBM3",
        capability=(9, 0),
        memory=80 * 10**9,
        bandwidth=3352e9,
        cores=132,
        units=128,
        clock=1.98,
        cache=50 * _MIB,
        shared=228 * _KIB,
        threads=2048,
    ),
    "h200": Gpu(
        kind="NVIDIA H200",
        capability=(9, 0),
        memory=141 * 10**9,
        bandwidth=4800e9,
        cores=132,
        units=128,
        clock=1.98,
        cache=50 * _MIB,
        shared=228 * _KIB,
        threads=2048,
    ),
    "l4": Gpu(
        kind="NVIDIA L4",
        capability=(8, 9),
        memory=24 * 10**9,
        bandwidth=300e9,
        cores=58,
        units=128,
        clock=2.04,
        cache=48 * _MIB,
        shared=100 * _KIB,
        threads=1536,
    ),
    "rtx4090": Gpu(
        kind="NVIDIA GeForce RTX 4090",
        capability=(8, 9),
        memory=24 * 10**9,
        bandwidth=1008e9,
        cores=128,
        units=128,
        clock=2.52,
        cache=72 * _MIB,
        shared=100 * _KIB,
        threads=1536,
    ),
}


def devices(name: str) -> Sequence[Any]:
    """Returns one GPU to compile for, as a sequence.

    Args:
        name: a key of GPUS.

    Raises:
        InputError: the compiler is not installed, or refuses the GPU.
    """
    from jax.experimental import topologies

    config = GPUS[name].description
    try:
        found = topologies.get_topology_desc(
            platform="cuda", target_config=config, topology="1x1x1"
        )
    except NotImplementedError as error:
        advice = "compiling for GPUs needs JAX's CUDA libraries: pip install 'jaxvsr[cuda-compile]'"
        raise InputError(f"{advice} ({error})") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"XLA cannot compile for {name} ({reason})") from error
    return found.devices
