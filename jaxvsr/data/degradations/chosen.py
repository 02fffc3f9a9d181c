"""A degradation chosen by a line of text, such as the value of a config's field."""

import ast
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxvsr.data.degradations.chain import Kernels, Order, Realistic, Walk, realistic
from jaxvsr.data.degradations.codecs import h264, jpeg, mpeg4
from jaxvsr.data.degradations.compressed import Compressed, compressed
from jaxvsr.errors import InputError, suggest
from jaxvsr.video.pyav import require_av

# Functions that make lq from gt, and their settings.
OF_GT: dict[str, tuple[Callable, type]] = {
    "compressed": (compressed, Compressed),
    "realistic": (realistic, Realistic),
}
# Functions that degrade lq further.
OF_LQ: dict[str, Callable] = {"h264": h264, "jpeg": jpeg, "mpeg4": mpeg4}
# Values of settings that have settings of their own.
PARTS: dict[str, type] = {"Kernels": Kernels, "Order": Order, "Walk": Walk}


@dataclasses.dataclass(frozen=True)
class Degradation:
    """A degradation of clips.

    Attributes:
        text: that chose it.
        name: a key of OF_GT or OF_LQ.
        settings: by name.
    """

    text: str
    name: str
    settings: Mapping[str, Any]

    @property
    def of_gt(self) -> bool:
        """Whether lq is made from gt, not from the data set's lq."""
        return self.name in OF_GT

    def lq(
        self,
        gt: UInt8[np.ndarray, "t H W 3"],
        lq: UInt8[np.ndarray, "t h w 3"],
        rng: np.random.Generator,
    ) -> UInt8[np.ndarray, "t h w 3"]:
        """Degrades a clip.

        Args:
            gt: target frames.
            lq: the same frames, reduced by the data set's degradation.
            rng: draws the parameters.

        Returns:
            Frames of the size of `lq`.
        """
        if not self.of_gt:
            return OF_LQ[self.name](np.ascontiguousarray(lq), **self.settings)
        degrade, settings = OF_GT[self.name]
        scale = gt.shape[1] // lq.shape[1]
        return degrade(np.ascontiguousarray(gt), rng, settings(**self.settings, scale=scale))


def parse_degradation(text: str) -> Degradation:
    """Reads a degradation from a line of text.

    Args:
        text: a name, or a call of it with settings: "compressed", "compressed(crf=(18, 35))",
            "h264(crf=25)", "realistic(second=Order(blur=0.5))". Names are those of
            `jaxvsr.data.degradations`. Nothing is evaluated but literals and these calls.

    Raises:
        InputError: an unknown name or setting, a value that the degradation refuses, or PyAV is
            needed and not installed.
    """
    try:
        call = ast.parse(text, mode="eval").body
        name, settings = _call(call)
    except (SyntaxError, ValueError, TypeError) as error:
        raise InputError(
            f"the degradation {text!r} must be a name with settings, such as "
            f'"compressed(crf=(18, 35))": {error}'
        ) from error
    if name not in OF_GT.keys() | OF_LQ.keys():
        raise InputError(f"unknown degradation {name!r}{suggest(name, (*OF_GT, *OF_LQ))}")
    if name in OF_GT:
        known = [field.name for field in dataclasses.fields(OF_GT[name][1])]
        known.remove("scale")
    else:
        known = list(inspect.signature(OF_LQ[name]).parameters)[1:]
    for setting in settings:
        if setting not in known:
            raise InputError(
                f"the degradation {name!r} has no setting {setting!r}{suggest(setting, known)}"
            )
    if name != "jpeg":
        require_av()
    found = Degradation(text, name, settings)
    try:  # on a small clip, so that a wrong value is found before a training starts
        small = np.zeros((2, 16, 16, 3), np.uint8)
        found.lq(small, small[:, :8, :8], np.random.default_rng(0))
    except (ValueError, TypeError) as error:
        raise InputError(f"the degradation {text!r}: {error}") from error
    return found


def _call(node: ast.expr) -> tuple[str, dict[str, Any]]:
    """Reads "name" or "name(key=value, ...)"."""
    match node:
        case ast.Name(id=name):
            return name, {}
        case ast.Call(func=ast.Name(id=name), args=[], keywords=words):
            return name, {str(word.arg): _value(word.value) for word in words}
    raise ValueError("settings are given by name")


def _value(node: ast.expr) -> Any:
    """Reads a literal, or one of PARTS with its settings: "Walk(1, 30, step=0.1)"."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=values, keywords=words):
            if name not in PARTS:
                raise ValueError(f"unknown {name!r}{suggest(name, PARTS)}")
            settings = {str(word.arg): _value(word.value) for word in words}
            return PARTS[name](*map(_value, values), **settings)
    return ast.literal_eval(node)
