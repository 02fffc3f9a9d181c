"""Degradations of JAX arrays that work under jit, with the names and arguments of the host's.

They equal `jaxvsr.data.degradations` up to the rounding of float32, so that a uint8 result close to
a tie may differ by one. Sizes, scales and kinds must be static.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Shaped

from jaxvsr.data.degradations import dct, filters, noise, taps
from jaxvsr.data.degradations.common import (
    as_matlab,
    check_frames,
    per_frame,
    round_half_up,
    to_float,
)
from jaxvsr.data.degradations.resample import check_blur, check_scale


def imresize(frames: Shaped[ArrayLike, "*b h w c"], scale: float) -> Shaped[Array, "*b H W c"]:
    """As the host's imresize; scale is a Python number."""
    frames = jnp.asarray(frames)
    check_frames(frames)
    check_scale(scale)
    h, w = frames.shape[-3:-1]
    small = _resample(
        to_float(frames), taps.matlab_bicubic(h, scale), taps.matlab_bicubic(w, scale)
    )
    return as_matlab(frames, small)


def blur_downsample(
    frames: Shaped[ArrayLike, "*b H W c"], kind: str, scale: int = 4
) -> Shaped[Array, "*b h w c"]:
    """As the host's blur_downsample; kind and scale are Python values."""
    frames = jnp.asarray(frames)
    check_frames(frames)
    check_blur(frames, kind, scale)
    h, w = frames.shape[-3:-1]
    x = frames.astype(jnp.result_type(frames.dtype, jnp.float32))
    x = _resample(x, taps.gaussian(h, kind, scale), taps.gaussian(w, kind, scale))
    return round_half_up(x) if frames.dtype == jnp.uint8 else x.astype(frames.dtype)


def _resample(x: jax.Array, rows: taps.Taps, columns: taps.Taps) -> jax.Array:
    """Float (..., h, w, c) along both axes, by matrix products, which suit accelerators."""
    h, w = x.shape[-3:-1]
    down = jnp.asarray(taps.matrix(rows, h), x.dtype)
    across = jnp.asarray(taps.matrix(columns, w), x.dtype)
    x = jnp.einsum("ph,...hwc->...pwc", down, x, precision=jax.lax.Precision.HIGHEST)
    return jnp.einsum("qw,...pwc->...pqc", across, x, precision=jax.lax.Precision.HIGHEST)


def blur(
    frames: Shaped[ArrayLike, "*b h w c"], kernel: Shaped[ArrayLike, "*k _ _"]
) -> Shaped[Array, "*b h w c"]:
    """As the host's blur."""
    return filters.blur(jnp.asarray(frames), jnp.asarray(kernel))


def usm_sharp(
    frames: Shaped[ArrayLike, "*b h w c"],
    weight: float = 0.5,
    size: int = 51,
    threshold: float = 10,
) -> Shaped[Array, "*b h w c"]:
    """As the host's usm_sharp; size is a Python integer."""
    return filters.usm_sharp(jnp.asarray(frames), weight, size, threshold)


def add_noise(
    frames: Shaped[ArrayLike, "*b h w c"], sigma: float | Shaped[ArrayLike, "..."], key: Array
) -> Float[Array, "*b h w c"]:
    """As the host's add_noise, drawn from a key: other numbers of the same distribution."""
    frames = jnp.asarray(frames)
    check_frames(frames)
    x = to_float(frames)
    return x + per_frame(sigma, x, "sigma") / 255 * jax.random.normal(key, x.shape, x.dtype)


def with_noise_map(
    frames: Float[ArrayLike, "*b h w c"], sigma: float | Shaped[ArrayLike, "..."]
) -> Float[Array, "*b h w c+1"]:
    """As the host's with_noise_map."""
    return noise.with_noise_map(jnp.asarray(frames), sigma)


def jpeg_dct(
    frames: Shaped[ArrayLike, "*b h w 3"], quality: float | Shaped[ArrayLike, "..."]
) -> Shaped[Array, "*b h w 3"]:
    """As the host's jpeg_dct."""
    with jax.default_matmul_precision("highest"):
        return dct.jpeg_dct(jnp.asarray(frames), quality)
