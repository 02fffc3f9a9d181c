"""A degradation chosen by a line of text, such as the value of a config's field."""

import ast
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxvsr.data.degradations.chain import Kernels, Order, Realistic, Walk, realistic
from jaxvsr.data.degradations.codecs import h264, jpeg, mpeg4
from jaxvsr.data.degradations.compressed import Compressed, compressed
from jaxvsr.data.degradations.resample import blur_downsample, imresize
from jaxvsr.errors import InputError, suggest
from jaxvsr.video.pyav import require_av


def bicubic(gt: UInt8[np.ndarray, "t H W 3"], scale: int) -> UInt8[np.ndarray, "t h w 3"]:
    """Downsamples a clip as MATLAB's imresize does."""
    return imresize(gt, 1 / scale)


# Functions of gt and the scale that make lq without settings, by the names that data sets store.
DOWNSAMPLINGS: dict[str, Callable] = {
    "bicubic": bicubic,
    **{kind: functools.partial(blur_downsample, kind=kind) for kind in ("bd", "duf", "tecogan")},
}
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
        name: a key of DOWNSAMPLINGS, OF_GT or OF_LQ.
        settings: by name.
        then: degradations of the result, in this order.
    """

    text: str
    name: str
    settings: Mapping[str, Any]
    then: tuple["Degradation", ...] = ()

    @property
    def of_gt(self) -> bool:
        """Whether lq is made from gt, not from the data set's lq."""
        return self.name not in OF_LQ

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
        scale = gt.shape[1] // lq.shape[1]
        if self.name in OF_LQ:
            made = OF_LQ[self.name](np.ascontiguousarray(lq), **self.settings)
        elif self.name in DOWNSAMPLINGS:
            made = DOWNSAMPLINGS[self.name](gt, scale=scale)
        else:
            degrade, settings = OF_GT[self.name]
            settings = settings(**self.settings, scale=scale)
            made = degrade(np.ascontiguousarray(gt), rng, settings)
        for degradation in self.then:
            made = degradation.lq(gt, made, rng)
        return made


def parse_degradation(text: str, scale: int = 4) -> Degradation:
    """Reads a degradation from a line of text.

    Args:
        text: a name, or a call of it with settings: "duf", "compressed(crf=(18, 35))",
            "h264(crf=25)", "realistic(second=Order(blur=0.5))"; or several, one after the other:
            "bd, h264(crf=25)". Nothing is evaluated but literals and these calls.
        scale: H/h of the clips.

    Raises:
        InputError: an unknown name or setting, a value or a scale that the degradation refuses, or
            PyAV is needed and not installed.
    """
    try:
        line = ast.parse(text, mode="eval").body
        calls = [_call(call) for call in (line.elts if isinstance(line, ast.Tuple) else [line])]
    except (SyntaxError, ValueError, TypeError) as error:
        raise InputError(
            f"the degradation {text!r} must be a name with settings, such as "
            f'"compressed(crf=(18, 35))": {error}'
        ) from error
    for name, settings in calls:
        _check_names(name, settings)
    for name, _ in calls[1:]:
        if name not in OF_LQ:
            raise InputError(f"the degradation {text!r}: {name} makes lq from gt; put it first")
    (name, settings), *others = calls
    found = Degradation(text, name, settings, tuple(Degradation("", *call) for call in others))
    try:  # on a small clip, so that a wrong value is found before a training starts
        gt = np.zeros((2, 8 * scale, 8 * scale, 3), np.uint8)
        found.lq(gt, gt[:, :8, :8], np.random.default_rng(0))
    except (ValueError, TypeError) as error:
        raise InputError(f"the degradation {text!r}: {error}") from error
    return found


def _check_names(name: str, settings: Mapping[str, Any]) -> None:
    """Raises InputError for an unknown degradation or setting, or if PyAV is missing."""
    names = *DOWNSAMPLINGS, *OF_GT, *OF_LQ
    if name not in names:
        raise InputError(f"unknown degradation {name!r}{suggest(name, names)}")
    if name in OF_GT:
        known = [field.name for field in dataclasses.fields(OF_GT[name][1])]
        known.remove("scale")
    else:
        known = list(inspect.signature(OF_LQ[name]).parameters)[1:] if name in OF_LQ else []
    for setting in settings:
        if setting not in known:
            raise InputError(
                f"the degradation {name!r} has no setting {setting!r}{suggest(setting, known)}"
            )
    if name not in ("jpeg", *DOWNSAMPLINGS):
        require_av()


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
