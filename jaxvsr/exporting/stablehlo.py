"""Writes a network with its weights as a StableHLO program, which JAX loads without this package.

program = jax.export.deserialize(bytearray(path.read_bytes()))
sr = program.call(lq)
"""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

import jaxvsr
from jaxvsr import models
from jaxvsr.console import say
from jaxvsr.errors import InputError
from jaxvsr.exporting.output import write_described

PLATFORMS = ("cpu", "cuda", "tpu")


def export_stablehlo(model: nn.Module, variables: Any, size: tuple[int, int], frames: int) -> bytes:
    """Serializes `model.apply` for clips of one size and any batch size.

    Args:
        model, variables: the network.
        size: (height, width) of the input frames.
        frames: of a clip, raised to one of `models.accepted_frames`.

    Returns:
        A program that maps lq (b, t, h, w, 3 or 4) float32 in [0, 1] to sr, for CPU, GPU and TPU.

    Raises:
        InputError: the network cannot take clips of this size.
    """
    constants = jax.tree.map(np.asarray, variables)
    shape = models.example(model, frames, *size).shape
    (batch,) = jax_export.symbolic_shape("b")
    lq = jax.ShapeDtypeStruct((batch, *shape[1:]), jnp.float32)
    call = jax.jit(lambda lq: model.apply(constants, lq))
    try:
        exported = jax_export.export(call, platforms=PLATFORMS)(lq)
    except ValueError as error:
        clip = "x".join(map(str, shape[1:4]))
        name = type(model).__name__
        raise InputError(f"{name} cannot take clips of {clip}: {_first_line(error)}") from error
    return bytes(exported.serialize())


def write_stablehlo(
    data: bytes, origin: Mapping[str, Any], stem: str, out: pathlib.Path
) -> pathlib.Path:
    """Writes STEM.stablehlo and a description STEM.json.

    Args:
        data: the program.
        origin: source of the weights.
        stem: of the file names.
        out: an existing folder.

    Returns:
        Path of the program.

    Raises:
        InputError: the folder cannot be written.
    """
    program = jax_export.deserialize(bytearray(data))
    (lq,), (sr,) = program.in_avals, program.out_avals
    described = {
        "lq": f"{lq.str_short()}: b t h w c, RGB in 0 to 1",
        "sr": f"{sr.str_short()}: b t h w c, RGB in 0 to 1, not clipped",
        "platforms": list(program.platforms),
        "sha256": hashlib.sha256(data).hexdigest(),
        "source": dict(origin),
        "versions": {"jaxvsr": jaxvsr.__version__, "jax": jax.__version__},
    }
    path = out / f"{stem}.stablehlo"
    write_described(path, data, described)
    say(f"{described['lq']} -> {described['sr']}")
    say(f"wrote {path} ({len(data):,} bytes) and {path.with_suffix('.json').name}")
    return path


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
