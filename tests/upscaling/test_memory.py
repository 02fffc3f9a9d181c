"""Free memory."""

import jax

from jaxvsr.upscaling import memory


def test_memory_that_is_free():
    assert 2**20 < memory.host_memory() < 2**50
    assert memory.free_memory(jax.devices()[0]) <= memory.host_memory() * 1.5
