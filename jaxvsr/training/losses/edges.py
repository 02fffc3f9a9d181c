"""Loss of edges."""

import jax
import jax.numpy as jnp

from jaxvsr.training.losses.pixel import difference


def sobel(sr: jax.Array, gt: jax.Array) -> jax.Array:
    """Computes the L1 distance of Sobel gradients of each frame, inside the border.

    Args:
        sr, gt: (b, t, h, w, c), any range; at least 3x3.

    Returns:
        (b, t) float32: the mean over both directions. A gradient is divided by 4, so that it is
        the difference of pixels two apart.
    """
    x = difference(sr, gt)  # gradients are linear
    down, along = _gradient(x), _gradient(x.swapaxes(2, 3))
    return (jnp.abs(down).mean((2, 3, 4)) + jnp.abs(along).mean((2, 3, 4))) / 2


def _gradient(x: jax.Array) -> jax.Array:
    """Sobel gradient of (b, t, h, w, c) along h."""
    x = x[:, :, 2:] - x[:, :, :-2]
    return (x[:, :, :, :-2] + 2 * x[:, :, :, 1:-1] + x[:, :, :, 2:]) / 4
