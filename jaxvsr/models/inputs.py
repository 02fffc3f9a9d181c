"""Validation of the networks' input."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

AnyArray = Array | np.ndarray


def check_lq(lq: AnyArray, channels: int = 3) -> Float[Array, "b t h w {channels}"]:
    """Checks that the input of a network is a batch of clips with channels last.

    Args:
        lq: the input.
        channels: 3 for RGB, 4 for RGB and a noise level map.

    Returns:
        The input, as a JAX array.

    Raises:
        ValueError: another rank, channels not last, or another number of them.
        TypeError: integers, for instance 8-bit frames in 0..255.
    """
    expected = f"(b, t, h, w, {channels})"
    if lq.ndim != 5:
        raise ValueError(f"lq has shape {lq.shape}; expected five axes, {expected}")
    if lq.shape[-1] != channels:
        hint = "; move the channels to the last axis" if channels in lq.shape[1:3] else ""
        raise ValueError(f"lq has shape {lq.shape}; expected {expected}{hint}")
    if not jnp.issubdtype(lq.dtype, jnp.floating):
        raise TypeError(
            f"lq is {lq.dtype}; expected floats in [0, 1] (divide 8-bit frames by 255, or use "
            "jaxvsr.models.network_input)"
        )
    return jnp.asarray(lq)
