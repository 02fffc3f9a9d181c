"""Official weights into our trees: one table of names a model, every tensor accounted for."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr import models
from jaxvsr.errors import InputError
from jaxvsr.models.spynet import SpyNet
from jaxvsr.weights.basicvsr import BASICVSR
from jaxvsr.weights.basicvsrpp import BASICVSRPP
from jaxvsr.weights.files import read
from jaxvsr.weights.iconvsr import ICONVSR
from jaxvsr.weights.iiavsr import IIAVSR
from jaxvsr.weights.mobile import MOBILE_RRN, numbered
from jaxvsr.weights.psrt import PSRT
from jaxvsr.weights.rules import Match, Rules, match, places, take_over
from jaxvsr.weights.rvrt import RVRT, RVRT_LIGHT
from jaxvsr.weights.spynet import SPYNET
from jaxvsr.weights.swrn import SWRN
from jaxvsr.weights.vrt import VRT
from jaxvsr.weights.wrappers import unwrap, unwrap_tf

TORCH = {
    "basicvsr": BASICVSR,
    "basicvsrpp": BASICVSRPP,
    "iconvsr": ICONVSR,
    "iiavsr": IIAVSR,
    "miavsr": IIAVSR,
    "psrt": PSRT,
    "rvrt": RVRT,
    "rvrt_light": RVRT_LIGHT,
    "vrt": VRT,
}
# Where layers have numbers the table depends on which layers there are.
TF: dict[str, Rules | Callable[[Iterable[str], Iterable[str]], Rules]] = {
    "fani": numbered,
    "mobile_rrn": MOBILE_RRN,
    "swrn": SWRN,
}


def from_file(name: str, path: str | os.PathLike, group: str = "", **fields: Any) -> dict:
    """Takes over a file of official weights.

    Args:
        name: a model's name.
        path: of the file, of any kind that `files.read` takes.
        group: which set of weights of the file, as for `files.read`.
        **fields: the model's fields, as for `models.create`.

    Returns:
        The model's variables, of float32 NumPy arrays.

    Raises:
        InputError: there is no such file, it is damaged, or its weights are not the model's; the
            message names what is missing, left over or of another shape.
    """
    tensors = read(path, group)
    try:
        return compare(name, tensors, **fields).tree()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def compare(name: str, tensors: Mapping[str, Any], **fields: Any) -> Match:
    """How tensors, by the names of a model's official implementation, fit the model.

    Args:
        name: a model's name.
        tensors: as for `from_torch` or `from_tf`, whichever knows the model.
        **fields: the model's fields, as for `models.create`.
    """
    if name in TF:
        expected, tensors = _variables(name, TF, fields), unwrap_tf(tensors)
        return match(expected, _tf_rules(name, expected, tensors), tensors, np.asarray)
    expected = _variables(name, TORCH, fields)
    return match(expected, TORCH[name], unwrap(tensors), _torch_kernel)


def from_torch(name: str, state_dict: Mapping[str, Any], **fields: Any) -> dict:
    """Takes over the weights of an official PyTorch implementation.

    Args:
        name: a model's name.
        state_dict: official tensor names to arrays in PyTorch's layout (OIHW, OIDHW, OI); what
            `wrappers.unwrap` takes off may be around the names.
        **fields: the model's fields, as for `models.create`.

    Returns:
        The model's variables, of float32 NumPy arrays.

    Raises:
        ValueError: a tensor is missing, left over or of another shape than the model's; the
            message names it. Buffers, and tensors that no path of the official code uses, may be
            there or not.
    """
    expected = _variables(name, TORCH, fields)
    return take_over(expected, TORCH[name], unwrap(state_dict), _torch_kernel)


def from_tf(name: str, variables: Mapping[str, Any], **fields: Any) -> dict:
    """Takes over the weights of an official TensorFlow implementation.

    Args:
        name: a model's name.
        variables: official variable names to arrays in TensorFlow's layout (HWIO). The names in
            a tf.train checkpoint or a SavedModel (`tf_files.read_tf`) do as well; what belongs to
            an optimiser is passed over.
        **fields: the model's fields, as for `models.create`.

    Returns:
        The model's variables, of float32 NumPy arrays.

    Raises:
        ValueError: as `from_torch`.
    """
    expected, tensors = _variables(name, TF, fields), unwrap_tf(variables)
    return take_over(expected, _tf_rules(name, expected, tensors), tensors, np.asarray)


def spynet_from_torch(state_dict: Mapping[str, Any]) -> dict:
    """Takes over SpyNet alone: the subtree "spynet" of a model's parameters.

    Args:
        state_dict: official tensor names ("basic_module.0.basic_module.0.weight") to arrays.

    Returns:
        A tree of float32 NumPy arrays.

    Raises:
        ValueError: as `from_torch`.
    """
    frames = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    expected = jax.eval_shape(SpyNet().init, jax.random.key(0), frames, frames)["params"]
    return take_over(expected, SPYNET, unwrap(state_dict), _torch_kernel)


def _variables(name: str, tables: Mapping[str, Any], fields: Mapping[str, Any]) -> Any:
    if name not in tables:
        raise InputError(f"weights of this kind are known for {', '.join(tables)}, not {name!r}")
    model = models.create(name, **fields)
    return jax.eval_shape(model.init, jax.random.key(0), models.example(model, 2))


def _tf_rules(name: str, expected: Any, tensors: Mapping[str, Any]) -> Rules:
    rules = TF[name]
    return rules if isinstance(rules, Rules) else rules(places(expected), tensors)


def _torch_kernel(value: np.ndarray) -> np.ndarray:
    """Convolutions OIHW or, of single frames, OI1HW -> HWIO, linear layers OI -> IO."""
    value = value.squeeze(2) if value.ndim == 5 and value.shape[2] == 1 else value
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
