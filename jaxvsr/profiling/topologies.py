"""Compiles programs for GPUs and TPUs without one: whether they fit, what bounds their time."""

import contextlib
import dataclasses
import functools
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from jaxvsr import flops
from jaxvsr.console import compiling
from jaxvsr.distributed.mesh import placed, split_batch
from jaxvsr.errors import InputError
from jaxvsr.models import network_input
from jaxvsr.profiling import gpus
from jaxvsr.profiling.hlo import Traffic, traffic
from jaxvsr.training.optimizer import make_optimizer
from jaxvsr.training.state import initial_state, initial_weights
from jaxvsr.training.step import batch_shapes, make_loss, make_step

# Of a chip, from Google's data sheets: bytes of HBM, and its bandwidth in bytes per second.
TPUS = {
    "TPU v4": (32 * 2**30, 1228e9),
    "TPU v5 lite": (16 * 2**30, 819e9),
    "TPU v5": (95 * 2**30, 2765e9),
    "TPU v6 lite": (32 * 2**30, 1638e9),
    "TPU7x": (192 * 2**30, 7380e9),
}
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
# Available slices by generation.
SLICES = {"v4": _CUBES, "v5e": _FLAT, "v5p": _CUBES, "v6e": _FLAT, "tpu7x": _CUBES}

# libtpu then does not look for TPUs of this machine, and several processes may compile.
SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Fit:
    """A program compiled for a topology; numbers are per device.

    Attributes:
        kind: of the devices.
        devices: their number.
        available: bytes of memory.
        bandwidth: of the memory, bytes per second.
        peak: FLOP/s from the data sheet.
        flops: of matrix products and convolutions; recomputation counts.
        seconds: to compile.
        arguments: bytes.
        outputs: bytes of outputs that do not reuse the memory of an argument.
        temporaries: bytes.
        code: bytes of the program.
        traffic: of memory and between devices; None if compilation failed.
        refusal: the compiler's message if the memory is too small.
    """

    kind: str
    devices: int
    available: int
    bandwidth: float
    peak: float
    flops: float
    seconds: float
    arguments: int = 0
    outputs: int = 0
    temporaries: int = 0
    code: int = 0
    traffic: Traffic | None = None
    refusal: str = ""

    @property
    def used(self) -> int:
        """Bytes of memory in total."""
        return self.arguments + self.outputs + self.temporaries + self.code

    @property
    def fits(self) -> bool:
        """Whether the memory suffices."""
        return not self.refusal and self.used <= self.available

    @property
    def compute_seconds(self) -> float:
        """Lower bound of the time for the FLOPs."""
        return self.flops / self.peak

    @property
    def memory_seconds(self) -> float:
        """Lower bound of the time for the memory traffic; nan if compilation failed."""
        return self.traffic.memory / self.bandwidth if self.traffic else float("nan")


def devices(name: str) -> Sequence[Any]:
    """Returns the devices of a topology, to compile for.

    Args:
        name: a GPU, "h100", or a generation of TPUs and the chips along each axis, "v5e:2x2".

    Raises:
        InputError: unknown topology, or its compiler is not installed or in use.
    """
    if name in gpus.GPUS:
        return gpus.devices(name)
    generation, _, shape = name.partition(":")
    if shape not in SLICES.get(generation, ()):
        known = (", ".join(gpus.GPUS), *(f"{k}:{', '.join(v)}" for k, v in SLICES.items()))
        raise InputError(f"unknown topology {name!r}; expected one of: {'; '.join(known)}")
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    from jax.experimental import topologies

    host = {"chips_per_host_bounds": [1, 1, 1]} if shape == "1x1" else {}
    try:
        return topologies.get_topology_desc(name, "tpu", **host).devices
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if "lockfile" in reason:
            advice = "another process uses libtpu: wait until it has ended"
        elif "not installed" in reason:
            advice = "compiling for TPUs needs libtpu: pip install 'jaxvsr[tpu]'"
        else:
            advice = f"libtpu does not support {name}"
        raise InputError(f"{advice} ({reason})") from error


def inference(
    model: nn.Module, mesh: jax.sharding.Mesh, clips: int, frames: int, size: tuple[int, int]
) -> Any:
    """Traces the inference of clips that are divided among the devices of a mesh.

    Args:
        model: the network.
        mesh: of `make_mesh`.
        clips: total number, a multiple of the number of devices.
        frames: per clip.
        size: (h, w) of a frame.

    Returns:
        The traced function, for `compile_for`.
    """
    weights = jax.eval_shape(lambda: initial_weights(model, jax.random.key(0), False))
    shape = (clips, frames, *size, 3)
    lq = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=split_batch(mesh))
    infer = jax.jit(lambda variables, lq: model.apply(variables, network_input(model, lq)))
    with jax.set_mesh(mesh):  # Pallas kernels are lowered for the kind of its devices
        return infer.trace(placed(weights.variables, mesh), lq)


def training(
    config: ml_collections.ConfigDict,
    model: nn.Module,
    mesh: jax.sharding.Mesh,
    size: tuple[int, int] | None = None,
) -> Any:
    """Traces a training step on a batch that is divided among the devices of a mesh.

    Args:
        config: whole.
        model: the network.
        mesh: of `make_mesh`.
        size: (h, w) of a sample's inputs; None: those of the config.

    Returns:
        The traced function, for `compile_for`.
    """
    optimizer, _ = make_optimizer(config.optim, config.train.steps)
    ema = config.optim.ema
    init = functools.partial(initial_state, model, optimizer, config.train.seed, bool(ema))
    batch = batch_shapes(config.data, model.scale, size, split_batch(mesh))
    loss = make_loss(model, config.loss, config.data.noise, config.data.photometric)
    step = make_step(loss, optimizer, config.train.accumulate, ema)
    state = placed(jax.eval_shape(init), mesh)
    with jax.set_mesh(mesh):  # as above
        return jax.jit(step, donate_argnums=0).trace(state, batch)


def compile_for(traced: Any, mesh: jax.sharding.Mesh) -> Fit:
    """Compiles a traced function whose arguments lie on a mesh of a topology's devices."""
    device = mesh.devices.flat[0]
    kind = device.device_kind
    gpu = next((gpu for gpu in gpus.GPUS.values() if gpu.kind == kind), None)
    if gpu:
        available, bandwidth = gpu.memory, gpu.bandwidth
    else:
        available, bandwidth = next(value for name, value in TPUS.items() if name in kind)
    # On some TPUs JAX sees two cores as two devices, which share memory and bandwidth.
    cores = 1 if gpu else sum(tuple(o.coords) == tuple(device.coords) for o in mesh.devices.flat)
    start = time.perf_counter()
    fit = Fit(
        kind=kind,
        devices=mesh.size,
        available=available // cores,
        bandwidth=bandwidth / cores,
        peak=(flops.data_sheet(kind) or float("nan")) / cores,
        flops=sum(flops.by_scope(traced.jaxpr).values()) / mesh.size,
        seconds=0.0,
    )
    try:
        with compiling(f"for {mesh.size} x {kind}"), _no_compile_cache():
            compiled = traced.lower().compile(gpus.COMPILER_OPTIONS if gpu else None)
    except jax.errors.JaxRuntimeError as error:
        if not re.search(r"RESOURCE_EXHAUSTED|Ran out of memory", str(error)):
            raise
        refusal = str(error).splitlines()[0]
        return dataclasses.replace(fit, seconds=time.perf_counter() - start, refusal=refusal)
    memory = compiled.memory_analysis()
    return dataclasses.replace(
        fit,
        seconds=time.perf_counter() - start,
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        traffic=traffic(compiled.as_text()),
    )


@contextlib.contextmanager
def _no_compile_cache() -> Iterator[None]:
    """JAX would keep a topology's program in its compilation cache, but cannot read it back."""
    before = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
