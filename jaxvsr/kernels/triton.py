"""Where kernels in Pallas' Triton dialect run."""

import jax

from jaxvsr.kernels import switch


def is_target() -> bool:
    """Whether the traced function is for a device of such kernels.

    That is an NVIDIA GPU of compute capability 8.0 or higher, by a version of Pallas with Triton's
    dialect.
    """
    if not switch.is_on():
        return False
    device = jax.sharding.get_abstract_mesh().abstract_device
    if (device.platform if device else jax.default_backend()) not in ("gpu", "cuda"):
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
