"""Resizing as in PyTorch and TensorFlow, pixel shuffles, and the upsampling head."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from jaxvsr.distributed import spatial_sharding
from jaxvsr.layers.blocks import conv, leaky_relu
from jaxvsr.pixels import cubic_kernel


@functools.partial(jax.jit, static_argnames=("size", "method", "align_corners"))
def resize(
    x: Float[Array, "*n h w c"],
    size: tuple[int, int],
    method: str = "bilinear",
    align_corners: bool = False,
) -> Float[Array, "*n {size[0]} {size[1]} c"]:
    """Resizes frames without antialiasing; edge pixels are repeated.

    Args:
        x: (..., h, w, c), any float dtype.
        size: (height, width) of the result.
        method: "bilinear", or "bicubic" with a = -0.75.
        align_corners: whether the centers of the corner pixels coincide; otherwise their outer
            edges coincide.

    Returns:
        (..., height, width, c) in the dtype of `x`, computed in float32.

    Source: torch.nn.functional.interpolate; tf.image.resize(antialias=False) for "bilinear".
    """
    rows = _resize_matrix(x.shape[-3], size[0], method, align_corners)
    columns = _resize_matrix(x.shape[-2], size[1], method, align_corners)
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    x, dtype = x.astype(jnp.float32), x.dtype
    if spatial_sharding.divides(x.shape[-3]):
        seen, weights = _by_device(rows, spatial_sharding.devices())
        x = spatial_sharding.take(x, seen.ravel())
        x = x.reshape(*x.shape[:-3], *seen.shape, *x.shape[-2:])
        out = product("sHh,...shwc->...sHwc", weights, x)
        out = spatial_sharding.first(out.reshape(*out.shape[:-4], -1, *out.shape[-2:]), size[0])
    else:
        out = spatial_sharding.split(product("Hh,...hwc->...Hwc", rows, x))
    return product("Ww,...hwc->...hWc", columns, out).astype(dtype)


def pixel_shuffle(
    x: Float[Array, "*n h w c"], factor: int
) -> Float[Array, "*n {factor}*h {factor}*w c//{factor}**2"]:
    """PyTorch's pixel shuffle: channel c*f*f + i*f + j goes to row i, column j, channel c."""
    height = factor * x.shape[-3]
    x = spatial_sharding.take(x, spatial_sharding.aligned(x.shape[-3], 1))
    *batch, h, w, channels = x.shape
    x = x.reshape(*batch, h, w, channels // factor**2, factor, factor)
    x = jnp.moveaxis(x, (-2, -1), (-4, -2))
    return spatial_sharding.first(x.reshape(*batch, h * factor, w * factor, -1), height)


def pixel_unshuffle(
    x: Float[Array, "*n h w c"], factor: int
) -> Float[Array, "*n h//{factor} w//{factor} c*{factor}**2"]:
    """Inverse of `pixel_shuffle`: (..., f*h, f*w, c) -> (..., h, w, c*f*f)."""
    height = x.shape[-3] // factor
    x = spatial_sharding.take(x, spatial_sharding.aligned(x.shape[-3], factor))
    *batch, h, w, channels = x.shape
    x = x.reshape(*batch, h // factor, factor, w // factor, factor, channels)
    x = jnp.moveaxis(x, (-4, -2), (-2, -1))
    return spatial_sharding.first(x.reshape(*batch, h // factor, w // factor, -1), height)


def depth_to_space(
    x: Float[Array, "*n h w c"], factor: int
) -> Float[Array, "*n {factor}*h {factor}*w c//{factor}**2"]:
    """TensorFlow's depth to space: channel (i*f + j)*C + c goes to row i, column j, channel c."""
    height = factor * x.shape[-3]
    x = spatial_sharding.take(x, spatial_sharding.aligned(x.shape[-3], 1))
    *batch, h, w, channels = x.shape
    x = x.reshape(*batch, h, w, factor, factor, channels // factor**2)
    x = jnp.moveaxis(x, -3, -4)
    return spatial_sharding.first(x.reshape(*batch, h * factor, w * factor, -1), height)


class PixelShuffleHead(nn.Module):
    """Upsampling head: convolutions and pixel shuffles by 2 or 3, then two convolutions.

    Attributes:
        scale: 1, 3 or a power of two.
        features_hr: channels after the last shuffle; 64 in all papers.
        dtype: of the computation; the image is float32.
        activate_hr: whether an activation separates the last two convolutions.

    Raises:
        ValueError: an unsupported scale.
    """

    scale: int
    features_hr: int = 64
    dtype: Any = jnp.float32
    activate_hr: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "*n h w c"]
    ) -> Float32[Array, "*n {self.scale}*h {self.scale}*w 3"]:
        """Maps features (..., h, w, c) to an image (..., scale*h, scale*w, 3) float32."""
        factors = [3] if self.scale == 3 else [2] * (self.scale.bit_length() - 1)
        if int(np.prod(factors)) != self.scale:
            raise ValueError(f"scale {self.scale} must be 1, 3 or a power of two")
        for i, factor in enumerate(factors, start=1):
            features = self.features_hr if i == len(factors) else x.shape[-1]
            x = conv(x, features * factor**2, name=f"upconv{i}", dtype=self.dtype)
            # In this order a GPU moves the pixels once.
            x = pixel_shuffle(leaky_relu(x), factor)
        # Without the activation, the official code counts it among the upsampler's convolutions.
        name = "conv_hr" if self.activate_hr else f"upconv{len(factors) + 1}"
        x = conv(x, self.features_hr, name=name, dtype=self.dtype)
        x = leaky_relu(x) if self.activate_hr else x
        return conv(x, 3, name="conv_last", dtype=self.dtype).astype(jnp.float32)


@functools.lru_cache(maxsize=64)
def _resize_matrix(size_in: int, size_out: int, method: str, align_corners: bool) -> np.ndarray:
    """(size_out, size_in) float32 weights of a 1-D resize."""
    index = np.arange(size_out)
    if align_corners:
        position = index * ((size_in - 1) / max(size_out - 1, 1))
    else:
        position = (index + 0.5) * (size_in / size_out) - 0.5
    if method == "bilinear":
        taps, kernel = np.arange(2), _triangle
    elif method == "bicubic":
        taps, kernel = np.arange(-1, 3), functools.partial(cubic_kernel, a=-0.75)
    else:
        raise ValueError(f"method {method!r} is neither 'bilinear' nor 'bicubic'")
    source = np.floor(position)[:, None] + taps
    weights = kernel(np.abs(position[:, None] - source))
    matrix = np.zeros((size_out, size_in))
    np.add.at(matrix, (index[:, None], np.clip(source, 0, size_in - 1).astype(int)), weights)
    return matrix.astype(np.float32)


def _by_device(matrix: np.ndarray, devices: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits a matrix (H, h) of `_resize_matrix` by output rows among devices.

    Returns:
        Indices of the input rows that each device needs, (devices, n), and their weights,
        (devices, ceil(H / devices), n).
    """
    matrix = np.pad(matrix, ((0, -len(matrix) % devices), (0, 0)))
    blocks = matrix.reshape(devices, -1, matrix.shape[1])
    used, size = np.asarray(blocks.any(axis=1)), matrix.shape[1]
    firsts = np.where(used.any(axis=1), used.argmax(axis=1), size)
    width = (size - used[:, ::-1].argmax(axis=1) - firsts).max()
    seen = np.minimum(firsts, size - width)[:, None] + np.arange(width)
    return seen, np.take_along_axis(blocks, seen[:, None], axis=2)


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1 - distance, 0)
