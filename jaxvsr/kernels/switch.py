"""Whether kernels are used, and on which platform."""

import os

import jax

VARIABLE = "JAXVSR_KERNELS"


def is_on() -> bool:
    """Whether networks use kernels where there are some: unless JAXVSR_KERNELS is "off"."""
    return os.environ.get(VARIABLE) != "off"


def platform() -> str:
    """The platform that the traced function is for, as far as it is known before lowering."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()
