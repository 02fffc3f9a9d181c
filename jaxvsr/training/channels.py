"""Pruned channels: weights of a network, cut to the same network with fewer channels.

`model.prune_channels` is the fraction of the channels that a mobile network lacks between
convolutions. Such a network is an ordinary, smaller one: in training, in checkpoints and in
exported files.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxvsr import models
from jaxvsr.errors import InputError
from jaxvsr.models.mobile.base import Mobile
from jaxvsr.models.mobile.blocks import BatchNorm

Path = tuple[str, ...]


def check_prunable(model: nn.Module) -> None:
    """Raises InputError if `prune_channels` is set in a network that has no such channels."""
    if not getattr(model, "prune_channels", 0.0):
        return
    if _shapes(model) == _shapes(model.clone(prune_channels=0.0)):
        raise InputError(
            f"prune_channels={model.prune_channels}: {type(model).__name__} with these fields has "
            "no channels that only convolutions read; set 0"
        )


def prune_channels(variables: Any, model: Mobile, before: float = 0.0) -> Any:
    """Removes the channels whose incoming weights have the smallest sum of magnitudes.

    The output stays the same if the weights into the removed channels are zero.

    Args:
        variables: of the network with more channels.
        model: the network that they are to fit.
        before: `prune_channels` of the network of the variables; all else is as in `model`.

    Returns:
        Variables of `model`, as NumPy arrays; the given ones if no more channels are removed.

    Raises:
        InputError: `model` has more channels, or parallel branches.
    """
    if model.prune_channels == before:
        return variables
    if model.reparam:
        raise InputError("pruning channels of trained weights needs model.reparam=False")
    if model.prune_channels < before:
        raise InputError(
            f"these weights were made with prune_channels={before}; expected at least that, since "
            f"channels cannot be added; got {model.prune_channels}"
        )
    wider = model.clone(prune_channels=before)
    widths = _shapes(model)
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(variables).items()}

    def keep(path: Path, axis: int, kept: np.ndarray) -> None:
        for collection in ("params", "batch_stats"):
            for place in flat:
                if place[:-1] == (collection, *path) and flat[place].ndim > axis:
                    flat[place] = np.compress(kept, flat[place], axis=axis % flat[place].ndim)

    def narrow(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        # The values of removed channels are NaN from one convolution to the next.
        module = context.module
        if context.method_name != "__call__" or not isinstance(module, nn.Conv | BatchNorm):
            return method(*args, **kwargs)
        x, path = args[0], module.path
        kept = ~np.isnan(x).any(tuple(range(x.ndim - 1)))
        if isinstance(module, BatchNorm):
            keep(path, -1, kept)
            return x
        if module.feature_group_count == 1:
            keep(path, 2, kept)
        kernel = flat["params", *path, "kernel"]
        magnitude = np.abs(kernel).sum((0, 1, 2))
        largest = np.argsort(-magnitude, kind="stable")[: widths["params", *path, "kernel"][-1]]
        kept = np.isin(np.arange(len(magnitude)), largest)
        keep(path, -1, kept)
        marked = np.where(kept, 1, np.nan).astype(np.float32)
        return jnp.asarray(np.broadcast_to(marked, (*x.shape[:-1], len(kept))))

    frames = jnp.ones((1, 2 + wider.lookahead, 1, 1, 3))
    with nn.intercept_methods(narrow):
        wider.apply(variables, wider.initial_state((1, 1, 1, 3)), frames, method="step")
    return unflatten_dict(flat)


def _shapes(model: nn.Module) -> dict[Path, tuple[int, ...]]:
    """Shapes of a network's variables by path."""
    variables = jax.eval_shape(model.init, jax.random.key(0), models.example(model))
    return {path: leaf.shape for path, leaf in flatten_dict(variables).items()}
