"""Helpers that benchmarks share."""

import argparse
import pathlib
import platform

import jax


def machine() -> str:
    """Device, processor, cores and versions, for the foot of a table of results."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    processor = f"{len(names)} cores of {names[0]}" if names else platform.processor()
    device = "" if jax.default_backend() == "cpu" else f"{jax.devices()[0].device_kind}; "
    return f"{device}{processor}; Python {platform.python_version()}, JAX {jax.__version__}"


def make_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser that shows a benchmark's docstring, examples included, as its help."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
