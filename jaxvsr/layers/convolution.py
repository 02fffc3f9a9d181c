"""Convolution whose gradients are fast inside loops on a CPU, too.

XLA rewrites the convolutions that differentiation makes into the one form that its CPU library
knows, but only outside of loops; inside, as in a recurrence over frames, they run ten times slower.
Here they are written in that form. On other platforms they stay what they are.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxvsr.distributed import spatial_sharding

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def same_conv(
    x: jax.Array,
    kernel: jax.Array,
    strides: Any,
    padding: Any,
    *,
    precision: Any,
    feature_group_count: int = 1,
    **_: Any,
) -> jax.Array:
    """A zero-padded convolution of stride 1, for `flax.linen.Conv(conv_general_dilated=...)`.

    It can be differentiated in reverse mode only.

    Args:
        x: (b, h, w, c_in).
        kernel: (odd, odd, c_in / groups, c_out), not dilated.
        strides: 1.
        padding: "SAME".
        precision: of the products.
        feature_group_count: groups of channels that do not meet.

    Returns:
        (b, h, w, c_out).
    """
    xs = jnp.split(x, feature_group_count, axis=-1)
    kernels = jnp.split(kernel, feature_group_count, axis=-1)
    outs = [_conv(x, kernel, precision) for x, kernel in zip(xs, kernels, strict=True)]
    return spatial_sharding.split(jnp.concatenate(outs, axis=-1))


def _plain(x: jax.Array, kernel: jax.Array, precision: Any) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=DIMENSIONS, precision=precision
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: jax.Array, kernel: jax.Array, precision: Any) -> jax.Array:
    return _plain(x, kernel, precision)


def _forward(x: jax.Array, kernel: jax.Array, precision: Any):
    return _conv(x, kernel, precision), (x, kernel)


def _backward(precision: Any, saved: tuple[jax.Array, jax.Array], dy: jax.Array):
    x, kernel = saved

    def derived(x: jax.Array, kernel: jax.Array, dy: jax.Array):
        (dx,) = jax.linear_transpose(lambda x: _plain(x, kernel, precision), x)(dy)
        (dkernel,) = jax.linear_transpose(lambda kernel: _plain(x, kernel, precision), kernel)(dy)
        return dx, dkernel

    def written_out(x: jax.Array, kernel: jax.Array, dy: jax.Array):
        dx = _plain(dy, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), precision)
        # The samples take the place of the input channels, the channels that of the samples.
        dkernel = jax.lax.conv_general_dilated(
            x.transpose(3, 1, 2, 0),
            dy.transpose(1, 2, 0, 3),
            (1, 1),
            [(side // 2, side // 2) for side in kernel.shape[:2]],
            dimension_numbers=DIMENSIONS,
            precision=precision,
        )
        return dx, dkernel.transpose(1, 2, 0, 3)

    return jax.lax.platform_dependent(x, kernel, dy, cpu=written_out, default=derived)


_conv.defvjp(_forward, _backward)
