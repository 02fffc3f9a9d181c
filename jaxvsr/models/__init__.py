"""The systems, one file a paper, and the table of their names."""

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any

import flax.linen as nn

from jaxvsr.models.basicvsr import BasicVSR
from jaxvsr.models.basicvsrpp import BasicVSRPP
from jaxvsr.models.bicubic import Bicubic
from jaxvsr.models.iconvsr import IconVSR
from jaxvsr.models.iiavsr import IIAVSR
from jaxvsr.models.miavsr import MIAVSR
from jaxvsr.models.mobile.swrn import SWRN
from jaxvsr.models.psrt import PSRT
from jaxvsr.models.rvrt import RVRT
from jaxvsr.models.rvrt_light import RVRTLight
from jaxvsr.models.vrt import VRT

MODELS: dict[str, type[nn.Module]] = {
    "basicvsr": BasicVSR,
    "basicvsrpp": BasicVSRPP,
    "bicubic": Bicubic,
    "iconvsr": IconVSR,
    "iiavsr": IIAVSR,
    "miavsr": MIAVSR,
    "psrt": PSRT,
    "rvrt": RVRT,
    "rvrt_light": RVRTLight,
    "swrn": SWRN,
    "vrt": VRT,
}


def create(name: str, **fields: Any) -> nn.Module:
    """Makes a network: `variables = model.init(key, lq)`, `sr = model.apply(variables, lq)`.

    Args:
        name: a key of MODELS.
        **fields: the class's attributes; lists are taken as tuples.

    Returns:
        A Flax module that takes lq (b, t, h, w, 3) float32 RGB in [0, 1] to
        sr (b, t, scale*h, scale*w, 3) float32, not clipped.

    Raises:
        ValueError: an unknown name or field.
    """
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}{_closest(name, MODELS)}")
    known = {f.name for f in dataclasses.fields(MODELS[name])} - {"parent", "name"}
    for field in fields:
        if field not in known:
            raise ValueError(f"model {name!r} has no field {field!r}{_closest(field, known)}")
    as_tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return MODELS[name](**as_tuples)


def _closest(word: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f": there are {', '.join(known)}"
