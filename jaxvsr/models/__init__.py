"""The networks, one file per paper, and the table of their names."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.errors import check_like, suggest
from jaxvsr.models.basicvsr import BasicVSR
from jaxvsr.models.basicvsrpp import BasicVSRPP
from jaxvsr.models.bicubic import Bicubic
from jaxvsr.models.iconvsr import IconVSR
from jaxvsr.models.iiavsr import IIAVSR
from jaxvsr.models.miavsr import MIAVSR
from jaxvsr.models.mobile.abpn import ABPN
from jaxvsr.models.mobile.afavsr import AFAVSR
from jaxvsr.models.mobile.fani import FANI
from jaxvsr.models.mobile.mobile_rrn import MobileRRN
from jaxvsr.models.mobile.sort import SORT
from jaxvsr.models.mobile.swat import SWAT
from jaxvsr.models.mobile.swrn import SWRN
from jaxvsr.models.mobile.vsr import VSR
from jaxvsr.models.psrt import PSRT
from jaxvsr.models.rvrt import RVRT
from jaxvsr.models.rvrt_light import RVRTLight
from jaxvsr.models.spynet import ClipSpyNet
from jaxvsr.models.vrt import VRT

MODELS: dict[str, type[nn.Module]] = {
    "abpn": ABPN,
    "afavsr": AFAVSR,
    "basicvsr": BasicVSR,
    "basicvsrpp": BasicVSRPP,
    "bicubic": Bicubic,
    "fani": FANI,
    "iconvsr": IconVSR,
    "iiavsr": IIAVSR,
    "miavsr": MIAVSR,
    "mobile_rrn": MobileRRN,
    "psrt": PSRT,
    "rvrt": RVRT,
    "rvrt_light": RVRTLight,
    "sort": SORT,
    "spynet": ClipSpyNet,
    "swat": SWAT,
    "swrn": SWRN,
    "vrt": VRT,
    "vsr": VSR,
}


def create(name: str, **fields: Any) -> nn.Module:
    """Creates a network: `variables = model.init(key, lq)`, `sr = model.apply(variables, lq)`.

    Args:
        name: a key of MODELS.
        **fields: attributes of the class; lists become tuples.

    Returns:
        A Flax module that maps lq (b, t, h, w, 3) float32 RGB in [0, 1] to
        sr (b, t, scale*h, scale*w, 3) float32, not clipped.

    Raises:
        ValueError: an unknown name or field, or a value that is not of the field's type or choices.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}{suggest(name, MODELS)}")
    known = {f.name for f in dataclasses.fields(MODELS[name])} - {"parent", "name"}
    for field in fields:
        if field not in known:
            raise ValueError(f"unknown field {field!r} of model {name!r}{suggest(field, known)}")
    for field, kind in typing.get_type_hints(MODELS[name]).items():
        if field not in fields:
            continue
        value, default = fields[field], getattr(MODELS[name], field, None)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        check_like(f"{field} of model {name!r}", value, default)
        if origin is tuple and ... not in arguments and len(value) != len(arguments):
            raise ValueError(
                f"{field}={value!r} of model {name!r} must have {len(arguments)} elements, as "
                f"{default!r} has"
            )
        if origin is Literal and value not in arguments:
            raise ValueError(
                f"{field}={value!r} of model {name!r} must be one of: {', '.join(arguments)}"
            )
    _check_stages(name, fields)
    as_tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    model = MODELS[name](**as_tuples)
    if not hasattr(model, "scale"):
        raise ValueError(f"model {name!r} has no attribute `scale`, the size of sr over that of lq")
    return model


def accepted_frames(model: nn.Module, frames: int) -> int:
    """Returns the smallest number of frames, from `frames` on, that a network takes.

    Args:
        model: the network. It may have the attributes `min_frames` and `frame_multiple`.
        frames: wanted number.
    """
    multiple = getattr(model, "frame_multiple", 1)
    return -(-max(frames, getattr(model, "min_frames", 1)) // multiple) * multiple


def _check_stages(name: str, fields: Mapping[str, Any]) -> None:
    """Raises ValueError unless fields with one entry per stage have equally many of them.

    These are the tuples of any length whose defaults are equally long.
    """
    lengths: dict[int, dict[str, int]] = {}
    for field, kind in typing.get_type_hints(MODELS[name]).items():
        if field in fields and typing.get_args(kind)[1:] == (...,):
            default = getattr(MODELS[name], field)
            lengths.setdefault(len(default), {})[field] = len(fields[field])
    for found in lengths.values():
        if len(set(found.values())) > 1:
            counts = ", ".join(f"{field} {length}" for field, length in found.items())
            raise ValueError(f"model {name!r} needs one entry per stage in each of: {counts}")


def example(
    model: nn.Module, frames: int = 1, height: int = 64, width: int = 64
) -> jax.ShapeDtypeStruct:
    """Shape of an input clip, for `model.init`.

    Args:
        model: the network. If its field `noise_level` is set, the clip has a fourth channel.
        frames: number of frames, raised to one of `accepted_frames`.
        height, width: frame size in pixels.

    Returns:
        (1, frames, height, width, 3 or 4) float32.
    """
    frames = accepted_frames(model, frames)
    channels = 4 if getattr(model, "noise_level", False) else 3
    return jax.ShapeDtypeStruct((1, frames, height, width, channels), jnp.float32)


def network_input(model: nn.Module, lq: jax.Array) -> jax.Array:
    """Converts frames to the input of a network.

    Args:
        model: the network.
        lq: (..., h, w, 3) uint8; or float in [0, 1], optionally with the standard deviation of the
            noise as a fourth channel.

    Returns:
        (..., h, w, 4) float32 if the network's `noise_level` is set, with noise level 0 if lq has
        none; otherwise (..., h, w, 3).
    """
    if lq.dtype == jnp.uint8:
        lq = lq.astype(jnp.float32) / 255
    if not getattr(model, "noise_level", False):
        return lq[..., :3]
    return lq if lq.shape[-1] == 4 else jnp.concatenate([lq, jnp.zeros_like(lq[..., :1])], axis=-1)
