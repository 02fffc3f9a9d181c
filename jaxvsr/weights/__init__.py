"""Official weights into our trees: one table of names a model, every tensor accounted for."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr import models
from jaxvsr.models.spynet import SpyNet
from jaxvsr.weights.basicvsr import BASICVSR
from jaxvsr.weights.basicvsrpp import BASICVSRPP
from jaxvsr.weights.iconvsr import ICONVSR
from jaxvsr.weights.iiavsr import IIAVSR
from jaxvsr.weights.psrt import PSRT
from jaxvsr.weights.rules import take_over
from jaxvsr.weights.rvrt import RVRT, RVRT_LIGHT
from jaxvsr.weights.spynet import SPYNET
from jaxvsr.weights.swrn import SWRN
from jaxvsr.weights.vrt import VRT

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
TF = {"swrn": SWRN}


def from_torch(name: str, state_dict: Mapping[str, Any], **fields: Any) -> dict:
    """Takes over the weights of an official PyTorch implementation.

    Args:
        name: a model's name.
        state_dict: official tensor names to arrays in PyTorch's layout (OIHW, OIDHW, OI).
        **fields: the model's fields, as for `models.create`.

    Returns:
        The model's variables, of float32 NumPy arrays.

    Raises:
        ValueError: a tensor is missing, left over or of another shape than the model's; the
            message names it. Buffers, and tensors that no path of the official code uses, may be
            there or not.
    """
    return take_over(_variables(name, TORCH, fields), TORCH[name], state_dict, _torch_kernel)


def from_tf(name: str, variables: Mapping[str, Any], **fields: Any) -> dict:
    """Takes over the weights of an official TensorFlow implementation.

    Args:
        name: a model's name.
        variables: official variable names to arrays in TensorFlow's layout (HWIO). The names in
            a tf.train checkpoint do as well; what belongs to its optimiser is passed over.
        **fields: the model's fields, as for `models.create`.

    Returns:
        The model's variables, of float32 NumPy arrays.

    Raises:
        ValueError: as `from_torch`.
    """
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    foreign = r"\.OPTIMIZER_SLOT/|^optimizer/|^save_counter|^_CHECKPOINTABLE_OBJECT_GRAPH"
    plain = {
        k.removeprefix("model/").removesuffix(suffix): v
        for k, v in variables.items()
        if not re.search(foreign, k)
    }
    return take_over(_variables(name, TF, fields), TF[name], plain, np.asarray)


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
    return take_over(expected, SPYNET, state_dict, _torch_kernel)


def _variables(name: str, tables: Mapping[str, Any], fields: Mapping[str, Any]) -> Any:
    if name not in tables:
        raise ValueError(f"weights of this kind are known for {', '.join(tables)}, not {name!r}")
    lq = jax.ShapeDtypeStruct((1, 2, 64, 64, 3), jnp.float32)
    return jax.eval_shape(models.create(name, **fields).init, jax.random.key(0), lq)


def _torch_kernel(value: np.ndarray) -> np.ndarray:
    """Convolutions OIHW or, of single frames, OI1HW -> HWIO, linear layers OI -> IO."""
    value = value.squeeze(2) if value.ndim == 5 and value.shape[2] == 1 else value
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
