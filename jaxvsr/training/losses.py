"""Losses."""

import jax
import jax.numpy as jnp


def charbonnier(sr: jax.Array, gt: jax.Array, eps: float = 1e-12) -> jax.Array:
    """Computes the Charbonnier loss of each frame: mean of sqrt((sr - gt)^2 + eps).

    Args:
        sr, gt: (b, t, h, w, c), any range.
        eps: smooths the loss near zero; in units of sr squared.

    Returns:
        (b, t) float32.

    Source: Lai et al., "Deep Laplacian Pyramid Networks", section 3.3.
    """
    difference = sr.astype(jnp.float32) - gt.astype(jnp.float32)
    return jnp.sqrt(difference**2 + eps).mean((2, 3, 4))
