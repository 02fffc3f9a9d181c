"""Conversion of official weights to parameter trees, with a table of names for each model."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr import models
from jaxvsr.console import be_silent
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
from jaxvsr.weights.tensors import printable
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
# If official names number the layers, the table depends on the layers of the network.
TF: dict[str, Rules | Callable[[Iterable[str], Iterable[str]], Rules]] = {
    "fani": numbered,
    "mobile_rrn": MOBILE_RRN,
    "swrn": SWRN,
}


def from_file(
    name: str,
    path: str | os.PathLike,
    group: str = "",
    say: Callable[[str], None] = be_silent,
    **fields: Any,
) -> dict:
    """Converts a file of official weights.

    Args:
        name: the model's name.
        path: a file of any format that `files.read` supports.
        group: the set of weights in the file, as for `files.read`.
        say: receives a line if there is a choice of sets of weights.
        **fields: the model's fields, as for `models.create`.

    Returns:
        The model's variables, as float32 NumPy arrays.

    Raises:
        InputError: a missing or damaged file, or weights of another model; the message names
            missing tensors, leftover tensors and those of another shape.
    """
    tensors = read(path, group, say)
    try:
        return compare(name, tensors, say, **fields).tree()
    except InputError as error:
        raise InputError(f"{printable(str(path))}: {error}") from error


def compare(
    name: str,
    tensors: Mapping[str, Any],
    say: Callable[[str], None] = be_silent,
    **fields: Any,
) -> Match:
    """Compares official tensors with a model.

    Args:
        name: the model's name.
        tensors: as for `from_torch` or `from_tf`, whichever supports the model.
        say: receives a line if there is a choice of sets of weights.
        **fields: the model's fields, as for `models.create`.

    Returns:
        The tensors that match, and those that do not.
    """
    if name in TF:
        expected, tensors = _variables(name, TF, fields), unwrap_tf(tensors)
        return match(expected, _tf_rules(name, expected, tensors), tensors, np.asarray)
    expected = _variables(name, TORCH, fields)
    return match(expected, TORCH[name], unwrap(tensors, say), _torch_kernel)


def from_torch(name: str, state_dict: Mapping[str, Any], **fields: Any) -> dict:
    """Converts the weights of an official PyTorch implementation.

    Args:
        name: the model's name.
        state_dict: official tensor names to arrays in PyTorch's layout (OIHW, OIDHW, OI), of NumPy
            or PyTorch. They may be nested in sets, and names may have prefixes, as
            `wrappers.unwrap` describes.
        **fields: the model's fields, as for `models.create`.

    Returns:
        The model's variables, as float32 NumPy arrays.

    Raises:
        ValueError: tensors that are missing, left over or of another shape, named in the message.
            Buffers, and tensors that the official code never uses, are optional. Tensors that are
            sparse, without values (meta), or not finite are named, too.
    """
    expected = _variables(name, TORCH, fields)
    return take_over(expected, TORCH[name], unwrap(state_dict), _torch_kernel)


def from_tf(name: str, variables: Mapping[str, Any], **fields: Any) -> dict:
    """Converts the weights of an official TensorFlow implementation.

    Args:
        name: the model's name.
        variables: official variable names to arrays in TensorFlow's layout (HWIO). Names of a
            tf.train checkpoint or a SavedModel (`tf_files.read_tf`) are supported, too. Variables
            of an optimizer are ignored.
        **fields: the model's fields, as for `models.create`.

    Returns:
        The model's variables, as float32 NumPy arrays.

    Raises:
        ValueError: as for `from_torch`.
    """
    expected, tensors = _variables(name, TF, fields), unwrap_tf(variables)
    return take_over(expected, _tf_rules(name, expected, tensors), tensors, np.asarray)


def spynet_from_torch(state_dict: Mapping[str, Any]) -> dict:
    """Converts the weights of SpyNet alone: the subtree "spynet" of a model's parameters.

    Args:
        state_dict: official tensor names ("basic_module.0.basic_module.0.weight") to arrays.

    Returns:
        A tree of float32 NumPy arrays.

    Raises:
        ValueError: as for `from_torch`.
    """
    frames = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    expected = jax.eval_shape(SpyNet().init, jax.random.key(0), frames, frames)["params"]
    return take_over(expected, SPYNET, unwrap(state_dict), _torch_kernel)


def edvr_from_torch(state_dict: Mapping[str, Any], expected: Any) -> dict:
    """Converts the weights of EDVR's feature extractor: the subtree "edvr" of IconVSR's parameters.

    Args:
        state_dict: official tensor names ("conv_first.weight") to arrays.
        expected: shapes of that subtree.

    Returns:
        A tree of float32 NumPy arrays.

    Raises:
        ValueError: as for `from_torch`.
    """
    tensors = {f"edvr.{name}": value for name, value in unwrap(state_dict).items()}
    return take_over({"edvr": expected}, TORCH["iconvsr"], tensors, _torch_kernel)["edvr"]


def _variables(name: str, tables: Mapping[str, Any], fields: Mapping[str, Any]) -> Any:
    if name not in tables:
        raise InputError(
            f"no table of official names for {name!r}; expected one of: {', '.join(tables)}"
        )
    model = models.create(name, **fields)
    return jax.eval_shape(model.init, jax.random.key(0), models.example(model, 2))


def _tf_rules(name: str, expected: Any, tensors: Mapping[str, Any]) -> Rules:
    rules = TF[name]
    return rules if isinstance(rules, Rules) else rules(places(expected), tensors)


def _torch_kernel(value: np.ndarray) -> np.ndarray:
    """Transposes kernels: convolutions OIHW (or OI1HW) to HWIO, linear layers OI to IO."""
    value = value.squeeze(2) if value.ndim == 5 and value.shape[2] == 1 else value
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
