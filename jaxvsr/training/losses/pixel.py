"""Losses of single pixels."""

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
    return jnp.sqrt(difference(sr, gt) ** 2 + eps).mean((2, 3, 4))


def l1(sr: jax.Array, gt: jax.Array) -> jax.Array:
    """Computes the mean absolute error of each frame, (b, t, h, w, c) -> (b, t) float32."""
    return jnp.abs(difference(sr, gt)).mean((2, 3, 4))


def mse(sr: jax.Array, gt: jax.Array) -> jax.Array:
    """Computes the mean squared error of each frame, (b, t, h, w, c) -> (b, t) float32."""
    return (difference(sr, gt) ** 2).mean((2, 3, 4))


def difference(sr: jax.Array, gt: jax.Array) -> jax.Array:
    """Subtracts in float32."""
    return sr.astype(jnp.float32) - gt.astype(jnp.float32)
