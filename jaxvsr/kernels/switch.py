"""Turns all kernels off, for a device on which one of them fails."""

import os

VARIABLE = "JAXVSR_KERNELS"


def is_on() -> bool:
    """Whether networks use kernels where there are some: unless JAXVSR_KERNELS is "off"."""
    return os.environ.get(VARIABLE) != "off"
