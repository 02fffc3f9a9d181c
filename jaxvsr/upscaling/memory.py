"""Free memory of devices and hosts, and the memory that a compiled program needs."""

import os
import pathlib
from typing import Any

import jax


def free_memory(device: jax.Device) -> int:
    """Free bytes of a device; of a CPU, an equal fraction of `host_memory`."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return host_memory() // jax.local_device_count()


def host_memory(
    meminfo: pathlib.Path = pathlib.Path("/proc/meminfo"),
    cgroup: pathlib.Path = pathlib.Path("/sys/fs/cgroup"),
) -> int:
    """Bytes that this process can still allocate, within the machine and its cgroup.

    Args:
        meminfo: Linux's file of the machine's memory.
        cgroup: folder of the container's limits.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    free = page * os.sysconf("SC_PHYS_PAGES") // 2  # where the free memory is unknown
    if meminfo.exists():
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        free = 1024 * int(fields["MemAvailable"].split()[0])
    if (cgroup / "memory.max").exists():
        limit = (cgroup / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((cgroup / "memory.current").read_text()))
    return free


def needed_memory(program: jax.stages.Compiled) -> int:
    """Bytes per device that a program needs while it runs and the next call is prepared."""
    need: Any = program.memory_analysis()
    outputs = 2 * (need.argument_size_in_bytes + need.output_size_in_bytes)
    return need.temp_size_in_bytes + outputs
