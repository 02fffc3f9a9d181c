"""Free memory, and the memory of a program."""

import os

import jax
import jax.numpy as jnp

from jaxvsr.upscaling import memory


def test_host_memory_is_the_smaller_of_machine_and_container(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  8000 kB\nMemAvailable:  3000 kB\n")
    assert memory.host_memory(meminfo, tmp_path) == 3000 * 1024
    (tmp_path / "memory.current").write_text("500\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.host_memory(meminfo, tmp_path) == 3000 * 1024
    (tmp_path / "memory.max").write_text("2500\n")
    assert memory.host_memory(meminfo, tmp_path) == 2000
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    assert memory.host_memory(tmp_path / "nowhere", tmp_path / "nowhere") == half


def test_devices_of_a_cpu_divide_its_memory(monkeypatch):
    monkeypatch.setattr(memory, "host_memory", lambda: 1000)
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    assert memory.free_memory(jax.devices("cpu")[0]) == 250


def test_needed_memory_counts_buffers_twice_and_temporaries_once():
    def program(x):
        return jnp.sort(x) + 1

    x = jax.ShapeDtypeStruct((1000,), jnp.float32)
    compiled = jax.jit(program).lower(x).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert memory.needed_memory(compiled) == 2 * (4000 + 4000) + temporary
