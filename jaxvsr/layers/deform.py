"""Deformable convolution and attention, in gathers that every platform has."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.layers import space
from jaxvsr.layers.attention import attend
from jaxvsr.layers.blocks import Conv, conv, leaky_relu, torch_uniform


def deform_conv2d(
    x: jax.Array,
    offset: jax.Array,
    mask: jax.Array | None,
    weight: jax.Array,
    bias: jax.Array | None,
    *,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
) -> jax.Array:
    """A convolution each of whose taps looks, bilinearly, where an offset sends it.

    The groups are c / (channels of `weight`), the deformable groups, each with offsets of its own,
    what the channels of `offset` say.

    Args:
        x: (b, h, w, c), any float dtype; zero outside.
        offset: (b, h', w', 2*d*k) displacements in pixels of d deformable groups and k = kh*kw
            taps: channel 2*(group*k + tap) is dy, the next dx. Coordinates are kept in float32.
        mask: (b, h', w', d*k), what the samples are multiplied by, or None.
        weight: (kh, kw, c / groups, features).
        bias: (features,) or None.
        stride, padding, dilation: of the undeformed convolution, the same both ways.

    Returns:
        (b, h', w', features) in the dtype of `x`.

    Raises:
        ValueError: shapes that do not belong together.

    Source: Zhu et al., "Deformable ConvNets v2", section 3.2; torchvision.ops.deform_conv2d.
    """
    b, height, width, c = x.shape
    kh, kw, channels, features = weight.shape
    taps = kh * kw
    rows = (height + 2 * padding - dilation * (kh - 1) - 1) // stride + 1
    columns = (width + 2 * padding - dilation * (kw - 1) - 1) // stride + 1
    groups, deform_groups = c // channels, offset.shape[-1] // (2 * taps)
    if c % channels or features % groups:
        raise ValueError(f"weight {weight.shape} does not divide {c} channels into groups")
    if offset.shape != (b, rows, columns, 2 * deform_groups * taps) or c % deform_groups:
        raise ValueError(
            f"offset {offset.shape} must be (b, {rows}, {columns}, 2*d*{taps}) with d a divisor of "
            f"{c}, for x {x.shape} and weight {weight.shape}"
        )
    if mask is not None and mask.shape != (b, rows, columns, deform_groups * taps):
        raise ValueError(f"mask {mask.shape} must have half the channels of offset {offset.shape}")

    offset = offset.astype(jnp.float32).reshape(b, rows, columns, deform_groups, taps, 2)
    offset = offset.swapaxes(3, 4)
    tap_y, tap_x = jnp.divmod(jnp.arange(taps, dtype=jnp.float32), kw)
    top, left = (stride * jnp.arange(n, dtype=jnp.float32) - padding for n in (rows, columns))
    ys = top[:, None, None, None] + dilation * tap_y[:, None] + offset[..., 0]
    xs = left[:, None, None] + dilation * tap_x[:, None] + offset[..., 1]
    samples = _sample(x[:, None], jnp.int32(0), ys, xs, axis=1)
    if mask is not None:
        mask = mask.reshape(b, rows, columns, deform_groups, taps).swapaxes(3, 4)
        samples = samples * mask[..., None]
    samples = samples.astype(x.dtype).reshape(b, rows, columns, taps, groups, channels)
    weight = weight.astype(x.dtype).reshape(taps, channels, groups, features // groups)
    out = jnp.einsum("bhwkgi,kigo->bhwgo", samples, weight).reshape(b, rows, columns, features)
    return out if bias is None else out + bias.astype(x.dtype)


def deform_attention(
    q: jax.Array, kv: jax.Array, offset: jax.Array, num_heads: int, window: tuple[int, int] = (3, 3)
) -> jax.Array:
    """Attention to the windows around where offsets send each position, one in every frame.

    The sampled channels are cut into deformable groups, each with offsets of its own, without
    regard to the heads: of d groups the first half moves the keys. What lies outside is zero and
    stays in the softmax. The gradient is the true derivative, that of the published CUDA kernel
    is not: it scales the keys' once more.

    Args:
        q: (b, t, h, w, c) queries, not yet scaled.
        kv: (b, t, h, w, 2*c) keys, values.
        offset: (b, t, h, w, 2*t*d*k) displacements in pixels, k = kh*kw: channel
            2*((slot*d + group)*k + tap) is dy, the next dx, where slot n of frame t samples frame
            (t + n) modulo the frames. Coordinates are kept in float32.
        num_heads: number of heads.
        window: (kh, kw).

    Returns:
        (b, t, h, w, c) in the dtype of `kv`.

    Raises:
        ValueError: shapes that do not belong together.

    Source: Liang et al., "Recurrent Video Restoration Transformer with Guided Deformable
        Attention", section 3.3.
    """
    b, t, h, w, c = q.shape
    kh, kw = window
    points = t * kh * kw
    groups = offset.shape[-1] // (2 * points)
    if kv.shape != (b, t, h, w, 2 * c):
        raise ValueError(f"kv {kv.shape} must have twice the channels of q {q.shape}")
    if c % num_heads:
        raise ValueError(f"{c} channels of q cannot be divided among {num_heads} heads")
    if offset.shape != (b, t, h, w, 2 * points * groups) or not groups or 2 * c % groups:
        raise ValueError(
            f"offset {offset.shape} must be (b, t, h, w, 2*d*{points}) with d a divisor of {2 * c}"
        )
    offset = offset.astype(jnp.float32).reshape(b, t, h, w, t, groups, kh * kw, 2)
    offset = offset.swapaxes(5, 6)
    tap_y, tap_x = jnp.divmod(jnp.arange(kh * kw, dtype=jnp.float32), kw)
    rows, columns = jnp.arange(h, dtype=jnp.float32), jnp.arange(w, dtype=jnp.float32)
    ys = rows[:, None, None, None, None] + (tap_y - kh // 2)[:, None] + offset[..., 0]
    xs = columns[:, None, None, None] + (tap_x - kw // 2)[:, None] + offset[..., 1]
    frames = (jnp.arange(t)[:, None] + jnp.arange(t)) % t
    samples = _sample(kv, frames[:, None, None, :, None], ys, xs, axis=2)
    samples = samples.reshape(b, t, h, w, points, 2 * c)
    k, v = jnp.split(samples, 2, axis=-1)
    return attend(q[..., None, :], k, v, jnp.zeros((num_heads, 1, 1)))[..., 0, :]


class DeformConv(nn.Module):
    """A 3x3 modulated deformable convolution of stride 1 that is told where to look.

    Attributes:
        features: output channels.
        dtype: of the computation; coordinates are float32.
        groups: what the channels are divided into, of the input and of the output.
    """

    features: int
    dtype: Any = jnp.float32
    groups: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, offset: jax.Array, mask: jax.Array) -> jax.Array:
        """x (b, h, w, c), offset (b, h, w, 18*d), mask (b, h, w, 9*d) -> (b, h, w, features)."""
        c = x.shape[-1] // self.groups
        kernel = self.param("kernel", torch_uniform(9 * c), (3, 3, c, self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return deform_conv2d(x.astype(self.dtype), offset, mask, kernel, bias)


class FlowGuidedDeformConv(nn.Module):
    """Looks for the current frame in others, near where the flows to them say.

    Attributes:
        features: channels of the current frame's features, and of each other's.
        deform_groups: of all other frames together, each of which has as many.
        max_residue: pixels that an offset may stray from the flow.
        groups: of the convolution.
        dtype: of the computation; coordinates are float32.

    Source: Chan et al., "BasicVSR++", section 3.2; Liang et al., "VRT", section 3.3.
    """

    features: int
    deform_groups: int
    max_residue: float
    groups: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, feats: jax.Array, cond: jax.Array, flows: Sequence[jax.Array]) -> jax.Array:
        """Aligns.

        Args:
            feats: (b, h, w, n*features) the n other frames.
            cond: (b, h, w, c) what the offsets are found from: frames warped and current, flows.
            flows: n of (b, h, w, 2) from the current frame to the others.

        Returns:
            (b, h, w, features).
        """
        x = cond.astype(self.dtype)
        for i in range(3):
            x = leaky_relu(conv(x, self.features, name=f"conv_offset_{i}", dtype=self.dtype))
        # Starts as zero: at first what is aligned is what the flow says.
        init = nn.initializers.zeros_init()
        last = Conv(27 * self.deform_groups, (3, 3), kernel_init=init, name="conv_offset_3")
        # In float32: an offset is a coordinate.
        x = last(x.astype(jnp.float32))
        residue, mask = jnp.split(x, [18 * self.deform_groups], axis=-1)
        # Offsets are (dy, dx).
        taps = 9 * self.deform_groups // len(flows)
        guides = jnp.concatenate([jnp.tile(flow[..., ::-1], taps) for flow in flows], axis=-1)
        offset = self.max_residue * jnp.tanh(residue) + guides
        deform = DeformConv(self.features, self.dtype, self.groups, name="deform")
        return deform(feats, offset, nn.sigmoid(mask))


def _sample(x: jax.Array, frame: jax.Array, ys: jax.Array, xs: jax.Array, axis: int) -> jax.Array:
    """Samples clips bilinearly; zero outside.

    The four pixels around a position lie together in memory, so that a sample is one row of a
    gather, and its gradient one row of a scatter.

    Args:
        x: (b, t, h, w, d*n).
        frame: int32 that broadcasts to (b, ..., d), the frame that is sampled.
        ys, xs: (b, ..., taps, d) float32.
        axis: of their rows.

    Returns:
        (b, ..., taps, d, n) in the dtype of `x`.
    """
    return space.sample(functools.partial(_sample_whole, frame), x, ys, xs, axis=axis)


def _sample_whole(frame: jax.Array, x: jax.Array, ys: jax.Array, xs: jax.Array) -> jax.Array:
    b, t, height, width, c = x.shape
    d = ys.shape[-1]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    padded = padded.reshape(b, t, height + 2, width + 2, d, -1)
    corners = [padded[:, :, i : height + 1 + i, j : width + 1 + j] for i in (0, 1) for j in (0, 1)]
    table = jnp.stack(corners, axis=5).reshape(b, -1, 4 * (c // d))

    @jax.checkpoint
    def sample(place: tuple[jax.Array, jax.Array]) -> jax.Array:
        ys, xs = place
        y0, x0 = jnp.floor(ys), jnp.floor(xs)
        wy, wx = ys - y0, xs - x0
        inside = (y0 >= -1) & (y0 < height) & (x0 >= -1) & (x0 < width)
        # Clipped before the cast: an offset that has run away must not overflow the integers.
        y0 = jnp.clip(y0, -1, height - 1).astype(jnp.int32) + 1
        x0 = jnp.clip(x0, -1, width - 1).astype(jnp.int32) + 1
        index = ((frame * (height + 1) + y0) * (width + 1) + x0) * d + jnp.arange(d)
        rows = jnp.take_along_axis(table, index.reshape(b, -1, 1), axis=1)
        weights = jnp.stack([(1 - wy) * (1 - wx), (1 - wy) * wx, wy * (1 - wx), wy * wx], axis=-1)
        weights = jnp.where(inside[..., None], weights, 0)
        rows = rows.reshape(*ys.shape, 4, c // d)
        product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
        return product("...kc,...k->...c", rows, weights).astype(x.dtype)

    # Tap by tap: what is gathered is four times what it becomes, and of a layout that TPUs fill up.
    taps = tuple(jnp.moveaxis(place, -2, 0) for place in (ys, xs))
    return jnp.moveaxis(jax.lax.map(sample, taps), 0, -3)
