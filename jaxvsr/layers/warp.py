"""Warping: bilinear and nearest sampling by optical flow, and alignment of whole patches."""

import functools

import jax
import jax.numpy as jnp

from jaxvsr.distributed import spatial_sharding


def flow_warp(
    x: jax.Array, flow: jax.Array, interpolation: str = "bilinear", padding: str = "zeros"
) -> jax.Array:
    """Samples `x` where `flow` points to: out[y, x] = x[y + flow_y, x + flow_x].

    Args:
        x: (b, h, w, c) features, any float dtype.
        flow: (b, h, w, 2) displacements (dx, dy) in pixels; coordinates are kept in float32.
        interpolation: "bilinear", or "nearest" (halves round to even).
        padding: what lies outside: "zeros" (each corner by itself), "border" (the nearest pixel)
            or "reflection" (about the centres of the border pixels).

    Returns:
        (b, h, w, c) in the dtype of `x`.

    Raises:
        ValueError: an unknown interpolation or padding, or sizes that differ.

    Source: torch.nn.functional.grid_sample with align_corners=True.
    """
    if x.shape[:3] != flow.shape[:3] or flow.shape[3] != 2:
        raise ValueError(f"flow {flow.shape} must be (b, h, w, 2) of features {x.shape}")
    if padding not in ("zeros", "border", "reflection"):
        raise ValueError(f"padding {padding!r} is none of 'zeros', 'border', 'reflection'")
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
        raise ValueError(f"interpolation {interpolation!r} is neither 'bilinear' nor 'nearest'")
    return spatial_sharding.sample(_bilinear, x, ys, xs)


def nearest_corners(x: jax.Array, flow: jax.Array) -> jax.Array:
    """The four pixels around where `flow` points to, side by side; zero outside.

    There is no gradient to the flow.

    Args:
        x: (b, h, w, c) features, any dtype.
        flow: (b, h, w, 2) displacements (dx, dy) in pixels.

    Returns:
        (b, h, w, 4*c): at the floor of x and y, of x alone, of y alone, of none; otherwise the
        ceiling.

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


def patch_align(x: jax.Array, flow: jax.Array, patch: int = 8) -> jax.Array:
    """Moves each patch as a unit by the rounded mean of its flow; zeros come in from outside.

    The gradient to the flow is exactly zero. At the right and bottom edges the flow is reflected
    to whole patches.

    Args:
        x: (b, h, w, c) features, any dtype.
        flow: (b, h, w, 2) displacements (dx, dy) in pixels.
        patch: side of a patch in pixels.

    Returns:
        (b, h, w, c) in the dtype of `x`.

    Source: Shi et al., "Rethinking Alignment in Video Super-Resolution Transformers" (PSRT),
        section 4.2.
    """
    b, height, width, _ = x.shape
    flow = spatial_sharding.extend(flow, -height % patch, -width % patch, "reflect")
    flow = spatial_sharding.take(flow, spatial_sharding.aligned(flow.shape[1], patch))
    rows, columns = flow.shape[1] // patch, flow.shape[2] // patch
    flow = flow.astype(jnp.float32).reshape(b, rows, patch, columns, patch, 2).mean((2, 4))
    shift = jax.lax.stop_gradient(jnp.round(flow))

    # A patch that lies outside by its whole size holds zeros, however far out it is.
    top = jnp.clip(jnp.arange(rows)[:, None] * patch + shift[..., 1], -patch, height)
    left = jnp.clip(jnp.arange(columns)[None, :] * patch + shift[..., 0], -patch, width)
    corners = jnp.stack([top, left], axis=-1).astype(jnp.int32) + patch
    out = spatial_sharding.sample(functools.partial(_patches, patch=patch), x, corners)
    return spatial_sharding.first(out, height)[:, :, :width]


def _patches(x: jax.Array, corners: jax.Array, patch: int) -> jax.Array:
    """x (b, h, w, c), whose border is `patch` zeros wide, at the upper left corners (b, rows,
    columns, 2) -> (b, rows*patch, columns*patch, c)."""
    b, _, _, c = x.shape
    padded = jnp.pad(x, ((0, 0), (patch, patch), (patch, patch), (0, 0)))

    def cut(frame: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(frame, (corner[0], corner[1], 0), (patch, patch, c))

    cut_row = jax.vmap(cut, in_axes=(None, 0))
    cut_frame = jax.vmap(cut_row, in_axes=(None, 0))
    patches = jax.vmap(cut_frame)(padded, corners)  # (b, rows, columns, patch, patch, c)
    rows, columns = (side * patch for side in corners.shape[1:3])
    return patches.transpose(0, 1, 3, 2, 4, 5).reshape(b, rows, columns, c)


def _bilinear(x: jax.Array, ys: jax.Array, xs: jax.Array) -> jax.Array:
    """x (b, h, w, c) at (ys, xs), each (b, rows, columns); zero outside."""
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
    """x (b, h, w, c) at whole (ys, xs), each (b, rows, columns); zero outside."""
    b, height, width, c = x.shape
    inside = (ys >= 0) & (ys <= height - 1) & (xs >= 0) & (xs <= width - 1)
    # Clipped before the cast: a flow that has run away must not overflow the integers.
    ys = jnp.clip(ys, 0, height - 1).astype(jnp.int32)
    xs = jnp.clip(xs, 0, width - 1).astype(jnp.int32)
    index = (ys * width + xs).reshape(b, ys.shape[1] * ys.shape[2], 1)  # b may be 0
    out = jnp.take_along_axis(x.reshape(b, height * width, c), index, axis=1)
    return jnp.where(inside[..., None], out.reshape(*ys.shape, c), 0)


def _reflect(position: jax.Array, size: int) -> jax.Array:
    """Folds positions into [0, size - 1] by reflection about the centres of the end pixels."""
    if size == 1:
        return jnp.zeros_like(position)
    period = 2 * (size - 1)
    position = jnp.abs(position) % period
    return jnp.minimum(position, period - position)
