"""Warping: bilinear and nearest sampling by optical flow, and alignment of whole patches."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvsr.distributed import spatial_sharding


def flow_warp(
    x: Float[Array, "b h w c"],
    flow: Float[Array, "b h w 2"],
    interpolation: str = "bilinear",
    padding: str = "zeros",
) -> Float[Array, "b h w c"]:
    """Warps features along a flow field: out[i, j] = x[i + dy, j + dx].

    Args:
        x: (b, h, w, c) features, any float dtype.
        flow: (b, h, w, 2) displacements (dx, dy) in pixels; coordinates are kept in float32.
        interpolation: "bilinear", or "nearest" (halves round to even).
        padding: values outside the frame: "zeros" (for each of the four pixels separately),
            "border" (the nearest pixel) or "reflection" (about the centers of border pixels).

    Returns:
        (b, h, w, c) in the dtype of `x`.

    Raises:
        ValueError: an unknown interpolation or padding, or different sizes.

    Source: torch.nn.functional.grid_sample with align_corners=True.
    """
    if x.shape[:3] != flow.shape[:3] or flow.shape[3] != 2:
        raise ValueError(f"flow {flow.shape} must be (b, h, w, 2) of features {x.shape}")
    if padding not in ("zeros", "border", "reflection"):
        raise ValueError(f"padding {padding!r} must be 'zeros', 'border' or 'reflection'")
    _, height, width, _ = x.shape
    flow = flow.astype(jnp.float32)
    ys = jnp.arange(height, dtype=jnp.float32)[:, None] + flow[..., 1]
    xs = jnp.arange(width, dtype=jnp.float32)[None, :] + flow[..., 0]
    if padding == "border":
        ys, xs = jnp.clip(ys, 0, height - 1), jnp.clip(xs, 0, width - 1)
    elif padding == "reflection":
        ys, xs = _reflect(ys, height), _reflect(xs, width)

    if interpolation == "nearest":
        return spatial_sharding.sample(_gather, x, jnp.round(ys), jnp.round(xs))
    if interpolation != "bilinear":
        raise ValueError(f"interpolation {interpolation!r} must be 'bilinear' or 'nearest'")
    return spatial_sharding.sample(_bilinear, x, ys, xs)


def nearest_corners(
    x: Float[Array, "b h w c"], flow: Float[Array, "b h w 2"]
) -> Float[Array, "b h w 4*c"]:
    """Samples the four pixels around the target of a flow, without interpolation; zero outside.

    The gradient to the flow is zero.

    Args:
        x: (b, h, w, c) features, any dtype.
        flow: (b, h, w, 2) displacements (dx, dy) in pixels.

    Returns:
        (b, h, w, 4*c): the pixels at (floor x, floor y), (floor x, ceil y), (ceil x, floor y) and
        (ceil x, ceil y).

    Source: the official code of VRT (Liang et al., 2022), "nearest4".
    """
    _, height, width, _ = x.shape
    flow = flow.astype(jnp.float32)
    ys = jnp.arange(height, dtype=jnp.float32)[:, None] + flow[..., 1]
    xs = jnp.arange(width, dtype=jnp.float32)[None, :] + flow[..., 0]
    roundings = jnp.floor, jnp.ceil

    def corners(x: jax.Array, ys: jax.Array, xs: jax.Array) -> jax.Array:
        four = [_gather(x, to_y(ys), to_x(xs)) for to_x in roundings for to_y in roundings]
        return jnp.concatenate(four, axis=-1)

    return spatial_sharding.sample(corners, x, ys, xs)


def patch_align(
    x: Float[Array, "b h w c"], flow: Float[Array, "b h w 2"], patch: int = 8
) -> Float[Array, "b h w c"]:
    """Moves each patch as a unit, by the rounded mean of its flow; zero outside the frame.

    The gradient to the flow is zero. The flow is padded to whole patches at the right and bottom
    by reflection.

    Args:
        x: (b, h, w, c) features, any dtype.
        flow: (b, h, w, 2) displacements (dx, dy) in pixels.
        patch: height and width of a patch, pixels.

    Returns:
        (b, h, w, c) in the dtype of `x`.

    Source: Shi et al., "Rethinking Alignment in Video Super-Resolution Transformers" (PSRT),
        section 4.2.
    """
    b, height, width, _ = x.shape
    flow = spatial_sharding.pad_bottom_right(flow, -height % patch, -width % patch, "reflect")
    flow = spatial_sharding.take(flow, spatial_sharding.aligned(flow.shape[1], patch))
    rows, columns = flow.shape[1] // patch, flow.shape[2] // patch
    flow = flow.astype(jnp.float32).reshape(b, rows, patch, columns, patch, 2).mean((2, 4))
    shift = jax.lax.stop_gradient(jnp.round(flow))

    # Clipped, since all patches that are entirely outside hold zeros.
    top = jnp.clip(jnp.arange(rows)[:, None] * patch + shift[..., 1], -patch, height)
    left = jnp.clip(jnp.arange(columns)[None, :] * patch + shift[..., 0], -patch, width)
    corners = jnp.stack([top, left], axis=-1).astype(jnp.int32) + patch
    out = spatial_sharding.sample(functools.partial(_patches, patch=patch), x, corners)
    return spatial_sharding.first(out, height)[:, :, :width]


def _patches(x: jax.Array, corners: jax.Array, patch: int) -> jax.Array:
    """Copies patches of x (b, h, w, c), padded by `patch` zeros, from their upper left corners.

    Corners are (b, rows, columns, 2); returns (b, rows*patch, columns*patch, c).
    """
    b, _, _, c = x.shape
    padded = jnp.pad(x, ((0, 0), (patch, patch), (patch, patch), (0, 0)))

    def crop(frame: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(frame, (corner[0], corner[1], 0), (patch, patch, c))

    crop_row = jax.vmap(crop, in_axes=(None, 0))
    crop_frame = jax.vmap(crop_row, in_axes=(None, 0))
    patches = jax.vmap(crop_frame)(padded, corners)  # (b, rows, columns, patch, patch, c)
    rows, columns = (side * patch for side in corners.shape[1:3])
    return patches.transpose(0, 1, 3, 2, 4, 5).reshape(b, rows, columns, c)


def _bilinear(x: jax.Array, ys: jax.Array, xs: jax.Array) -> jax.Array:
    """Samples x (b, h, w, c) bilinearly at (ys, xs), each (b, rows, columns); zero outside."""
    y0, x0 = jnp.floor(ys), jnp.floor(xs)
    wy, wx = (ys - y0)[..., None], (xs - x0)[..., None]
    out = (
        _gather(x, y0, x0) * ((1 - wy) * (1 - wx))
        + _gather(x, y0, x0 + 1) * ((1 - wy) * wx)
        + _gather(x, y0 + 1, x0) * (wy * (1 - wx))
        + _gather(x, y0 + 1, x0 + 1) * (wy * wx)
    )
    return out.astype(x.dtype)


def _gather(x: jax.Array, ys: jax.Array, xs: jax.Array) -> jax.Array:
    """Samples x (b, h, w, c) at integral (ys, xs), each (b, rows, columns); zero outside."""
    b, height, width, c = x.shape
    inside = (ys >= 0) & (ys <= height - 1) & (xs >= 0) & (xs <= width - 1)
    # Clipped before the cast, so that a diverged flow does not overflow the integers.
    ys = jnp.clip(ys, 0, height - 1).astype(jnp.int32)
    xs = jnp.clip(xs, 0, width - 1).astype(jnp.int32)
    index = (ys * width + xs).reshape(b, ys.shape[1] * ys.shape[2], 1)  # b may be 0
    out = jnp.take_along_axis(x.reshape(b, height * width, c), index, axis=1)
    return jnp.where(inside[..., None], out.reshape(*ys.shape, c), 0)


def _reflect(position: jax.Array, size: int) -> jax.Array:
    """Folds positions into [0, size - 1] by reflection about the centers of the end pixels."""
    if size == 1:
        return jnp.zeros_like(position)
    period = 2 * (size - 1)
    position = jnp.abs(position) % period
    return jnp.minimum(position, period - position)
