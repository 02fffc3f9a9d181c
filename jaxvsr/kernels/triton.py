"""Kernels in Pallas' Triton dialect: where they run, and how they replace a function."""

from collections.abc import Callable
from typing import Any

import jax
import jax.export
from jax.experimental.custom_partitioning import custom_partitioning

from jaxvsr.distributed import spatial_sharding
from jaxvsr.kernels import switch


def is_target() -> bool:
    """Whether the traced function is for a device of such kernels.

    That is an NVIDIA GPU of compute capability 8.0 or higher, by a version of Pallas with Triton's
    dialect.
    """
    if not switch.is_on():
        return False
    if switch.platform() not in ("gpu", "cuda"):
        return False
    if jax.default_backend() == "gpu":  # otherwise the program is for a GPU that is not here
        major = str(jax.local_devices()[0].compute_capability).partition(".")[0]
        if not major.isdigit() or int(major) < 8:  # AMD's are no numbers
            return False
    try:
        from jax.experimental.pallas import triton  # noqa: F401
    except ImportError:
        return False
    return True


def serves(clips: int, height: int) -> bool:
    """Whether a kernel can sample whole frames where the traced function will run.

    Args:
        clips: batch size; that of a program exported for any batch size is symbolic.
        height: of the frames, whose rows must not be divided among devices.
    """
    divided = spatial_sharding.divides(height) or jax.export.is_symbolic_dim(clips)
    return not divided and is_target()


def on_cuda(
    kernel: Callable[..., jax.Array], plain: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
    """Replaces the inference of a function by a kernel, where the platform is CUDA.

    Gradients, and results under vmap, are those of the plain form.

    Args:
        kernel: computes `plain` by a kernel.
        plain: a function of arrays.

    Returns:
        A function of the same arguments.
    """

    @jax.custom_batching.custom_vmap
    def forward(*inputs: Any) -> jax.Array:
        return jax.lax.platform_dependent(*inputs, cuda=kernel, default=plain)

    @forward.def_vmap
    def _(size: int, batched: Any, *inputs: Any) -> tuple[jax.Array, bool]:
        axes = jax.tree.map(lambda each: 0 if each else None, tuple(batched))
        return jax.vmap(plain, axes, axis_size=size)(*inputs), True

    @jax.custom_vjp
    def chosen(*inputs: Any) -> jax.Array:
        return forward(*inputs)

    chosen.defvjp(
        lambda *inputs: (forward(*inputs), inputs),
        lambda inputs, dy: jax.vjp(plain, *inputs)[1](dy),
    )
    return chosen


def by_clips(call: Callable[..., jax.Array], rule: str, whole: str) -> Callable[..., jax.Array]:
    """Lets XLA divide the clips of a kernel among devices.

    Args:
        call: the call of the kernel.
        rule: names of the axes of its arguments and of its result, as `sharding_rule` of
            `custom_partitioning`.
        whole: names of the axes that are not divided.
    """

    def partition(mesh: Any, shapes: Any, result: Any) -> tuple:
        return mesh, call, result.sharding, tuple(shape.sharding for shape in shapes)

    divided = custom_partitioning(call)
    divided.def_partition(
        partition, sharding_rule=rule, need_replication_factors=tuple(whole.split())
    )
    return divided


def padded(side: int) -> int:
    """The next power of two, as Triton requires of the sides of arrays."""
    return 1 << (side - 1).bit_length()
