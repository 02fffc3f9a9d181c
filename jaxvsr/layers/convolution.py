"""Convolution with gradients that are fast inside loops on a CPU.

XLA rewrites the convolutions of a gradient into the form that its CPU library supports, but only
outside loops. Inside a loop, such as a recurrence over frames, they run ten times slower. Here the
gradient is written in the supported form on a CPU, and derived automatically on other platforms.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxvsr.distributed import spatial_sharding

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def same_conv(
    x: Float[Array, "b h w c_in"],
    kernel: Float[Array, "kh kw _ c_out"],
    strides: int | Sequence[int] = 1,
    padding: Any = "SAME",
    *,
    lhs_dilation: int | Sequence[int] = 1,
    rhs_dilation: int | Sequence[int] = 1,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> Float[Array, "b h w c_out"]:
    """A zero-padded convolution of stride 1, for `flax.linen.Conv(conv_general_dilated=...)`.

    Reverse-mode differentiation only. The signature is that of `jax.lax.conv_general_dilated` as
    Flax calls it; settings of any other convolution are refused.

    Args:
        x: (b, h, w, c_in).
        kernel: (kh, kw, c_in / groups, c_out), kh and kw odd.
        strides, lhs_dilation, rhs_dilation: 1.
        padding: "SAME".
        dimension_numbers: not read; always channels last.
        feature_group_count: number of channel groups.
        precision: of the products.

    Returns:
        (b, h, w, c_out).

    Raises:
        ValueError: a stride or dilation other than 1, another padding, or an even kernel size.
    """
    for name, value in (
        ("strides", strides),
        ("input_dilation", lhs_dilation),
        ("kernel_dilation", rhs_dilation),
    ):
        if any(number != 1 for number in np.ravel(value)):
            raise ValueError(f"{name}={value} is not supported here; use flax.linen.Conv")
    if padding != "SAME":
        raise ValueError(f"padding={padding!r} must be 'SAME'; use flax.linen.Conv for others")
    if not all(size % 2 for size in kernel.shape[:2]):
        raise ValueError(f"kernel_size={kernel.shape[:2]} must be odd")
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
        # Samples and input channels exchange their roles.
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
