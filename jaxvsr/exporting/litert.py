"""Conversion of a phone graph into a LiteRT file (.tflite)."""

import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr.errors import InputError
from jaxvsr.exporting.phone_graph import PhoneGraph, step

PACKAGES = ("litert_converter", "ai_edge_litert", "litert_quantizer")


def require_packages() -> None:
    """Raises InputError if a package of the extra "export" is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        raise InputError(f"export needs {names}: pip install 'jaxvsr[export]'")


def convert(graph: PhoneGraph) -> bytes:
    """Converts a graph into a LiteRT file.

    Args:
        graph: of a network.

    Returns:
        The bytes of the file, with one signature: frames[, hidden] -> sr[, hidden_out].

    Raises:
        InputError: a package is missing, or the converter failed.
    """
    require_packages()

    def call(*inputs: jax.Array) -> tuple[jax.Array, ...]:
        return step(graph, constants, *inputs)

    constants = jax.tree.map(np.asarray, graph.variables)
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in graph.inputs.values()]
    exported = jax.export.export(jax.jit(call), platforms=["cpu"])(*shapes)
    return work(
        "convert",
        exported.mlir_module().encode(),
        inputs=list(graph.inputs),
        outputs=graph.outputs,
    )


def work(task: str, source: bytes, **settings: Any) -> bytes:
    """Runs a function of `exporting.worker` in a process of its own.

    Args:
        task: name of the function.
        source: content of the file that it reads.
        **settings: the rest of the job.

    Returns:
        Content of the file that it wrote.

    Raises:
        InputError: the process failed or crashed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "source").write_bytes(source)
        job = {
            "task": task,
            "source": str(folder / "source"),
            "target": str(folder / "target"),
            **settings,
        }
        (folder / "job.json").write_text(json.dumps(job))
        command = [sys.executable, "-m", "jaxvsr.exporting.worker", str(folder / "job.json")]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment())
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
            raise InputError(f"{task} failed ({_ending(done.returncode)}): {lines[-1].strip()}")
        return (folder / "target").read_bytes()


def _environment() -> dict[str, str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", "TQDM_DISABLE": "1"}


def _ending(code: int) -> str:
    return f"exit code {code}" if code > 0 else signal.Signals(-code).name
