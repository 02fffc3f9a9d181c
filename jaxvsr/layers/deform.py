"""Deformable convolution and attention, by gathers, on every platform."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvsr.distributed import spatial_sharding
from jaxvsr.kernels import deform_attention_gpu, deform_gpu, triton
from jaxvsr.layers.blocks import Conv, conv, leaky_relu, torch_uniform
from jaxvsr.layers.window_chunks import map_chunks


class _Corners(NamedTuple):
    """Padded clips, for `_look`.

    Attributes:
        rows: (b, t * (h + 1) * (w + 1) * d, 4 * c / d), the four pixels around a place. A sample is
            then one row of a gather, and its gradient is one row of a scatter.
        pixels: (b, t * (h + 2) * (w + 2) * d, c / d), of which a CPU gathers and sums four in one
            loop; None: it gathers rows, which is faster if a place has many channels.
    """

    rows: jax.Array
    pixels: jax.Array | None


def deform_conv2d(
    x: Float[Array, "b h w c"],
    offset: Float[Array, "b h_out w_out offsets"],
    mask: Float[Array, "b h_out w_out offsets//2"] | None,
    weight: Float[Array, "kh kw _ features"],
    bias: Float[Array, " features"] | None,
    *,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
) -> Float[Array, "b h_out w_out features"]:
    """Modulated deformable convolution: each kernel tap samples bilinearly at its own offset.

    The number of groups is c / (channels of `weight`). The number d of deformable groups, which
    have separate offsets, follows from the channels of `offset`.

    Args:
        x: (b, h, w, c), any float dtype; zero outside.
        offset: (b, h', w', 2*d*k) displacements in pixels of d deformable groups and k = kh*kw
            taps: channel 2*(group*k + tap) is dy, the next dx. Coordinates are kept in float32.
        mask: (b, h', w', d*k) factors of the samples, or None.
        weight: (kh, kw, c / groups, features).
        bias: (features,) or None.
        stride, padding, dilation: of the regular convolution, equal in both directions.

    Returns:
        (b, h', w', features) in the dtype of `x`.

    Raises:
        ValueError: inconsistent shapes.

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
    tap_y, tap_x = jnp.divmod(jnp.arange(taps, dtype=jnp.float32), kw)
    top, left = (stride * jnp.arange(n, dtype=jnp.float32) - padding for n in (rows, columns))
    ys = top[:, None, None, None] + dilation * tap_y + offset[..., 0]
    xs = left[:, None, None] + dilation * tap_x + offset[..., 1]
    mask = jnp.ones_like(ys) if mask is None else mask.reshape(ys.shape)
    weight = weight.astype(x.dtype).reshape(taps, channels, groups, features // groups)
    out = spatial_sharding.sample(
        functools.partial(_convolve, weight), x[:, None], ys, xs, mask, axis=1
    )
    return out if bias is None else out + bias.astype(x.dtype)


def deform_attention(
    q: Float[Array, "b t h w c"],
    k: Float[Array, "b t h w c"],
    v: Float[Array, "b t h w c"],
    offset: Float[Array, "b t h w _"],
    num_heads: int,
    window: tuple[int, int] = (3, 3),
    train: bool = False,
) -> Float[Array, "b t h w c"]:
    """Deformable attention: each position attends to one window in every frame, at an offset.

    The channels of keys, then values, are divided into d deformable groups with separate offsets,
    independently of the heads: the first half of the groups moves the keys. Samples outside the
    frame are zero and stay in the softmax. The gradient is the true derivative. The official CUDA
    kernel scales the gradient of the keys twice.

    Args:
        q, k, v: (b, t, h, w, c) queries before scaling, keys, values.
        offset: (b, t, h, w, 2*t*d*k) displacements in pixels, k = kh*kw: channel
            2*((slot*d + group)*k + tap) is dy, the next dx, where slot n of frame i samples frame
            (i + n) mod t. Coordinates are kept in float32.
        num_heads: attention heads.
        window: (kh, kw).
        train: whether gradients are taken. If not, CPUs and TPUs compute a few rows at a time.

    Returns:
        (b, t, h, w, c) in the dtype of `v`.

    Raises:
        ValueError: inconsistent shapes.

    Source: Liang et al., "Recurrent Video Restoration Transformer with Guided Deformable
        Attention", section 3.3.
    """
    b, t, h, w, c = q.shape
    kh, kw = window
    points = t * kh * kw
    groups = offset.shape[-1] // (2 * points)
    if not q.shape == k.shape == v.shape:
        raise ValueError(f"q {q.shape}, k {k.shape} and v {v.shape} must have one shape")
    if c % num_heads:
        raise ValueError(f"{c} channels of q cannot be divided among {num_heads} heads")
    if offset.shape != (b, t, h, w, 2 * points * groups) or not groups or 2 * c % groups:
        raise ValueError(
            f"offset {offset.shape} must be (b, t, h, w, 2*d*{points}) with d a divisor of {2 * c}"
        )
    inputs = (
        q.reshape(b, t, h, w, num_heads, -1),
        k,
        v,
        offset.astype(jnp.float32).reshape(b, t, h, w, t, groups, kh * kw, 2),
    )
    plain = functools.partial(_attend_at_offsets, window=window, train=train)
    if train or not deform_attention_gpu.serves(*inputs):
        return plain(*inputs)
    kernel = functools.partial(deform_attention_gpu.attend, window=window)
    return triton.on_cuda(kernel, plain)(*inputs)


class DeformConv(nn.Module):
    """3x3 modulated deformable convolution of stride 1, at predicted offsets.

    Attributes:
        features: output channels.
        dtype: of the computation; coordinates are float32.
        groups: number of channel groups of the input and of the output.
        max_residue: bound of the predicted offsets, pixels; None: unbounded.
    """

    features: int
    dtype: Any = jnp.float32
    groups: int = 1
    max_residue: float | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        head: Float[Array, "b h w _"],
        flows: Float[Array, "b h w _"] | None = None,
    ) -> Float[Array, "b h w {self.features}"]:
        """Convolves x.

        Args:
            x: (b, h, w, c).
            head: (b, h, w, 27*d) float32, the output of a network: offsets of d deformable groups,
                then the logits of their masks.
            flows: (b, h, w, 2*n) (dx, dy) of n frames, each added to the offsets of d/n groups.

        Returns:
            (b, h, w, features).
        """
        c = x.shape[-1] // self.groups
        kernel = self.param("kernel", torch_uniform(9 * c), (3, 3, c, self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        plain, fast = (
            functools.partial(function, max_residue=self.max_residue)
            for function in (_at_predicted_offsets, deform_gpu.convolve)
        )
        convolve = triton.on_cuda(fast, plain) if triton.serves(*x.shape[:2]) else plain
        out = convolve(x.astype(self.dtype), head, flows, kernel)
        return out + bias.astype(self.dtype)


class FlowGuidedDeformConv(nn.Module):
    """Flow-guided deformable alignment of other frames to the current one.

    Attributes:
        features: channels of each frame's features.
        deform_groups: deformable groups of all other frames together, equally many for each.
        max_residue: largest difference between offset and flow, pixels.
        groups: channel groups of the convolution.
        dtype: of the computation; coordinates are float32.

    Source: Chan et al., "BasicVSR++", section 3.2; Liang et al., "VRT", section 3.3.
    """

    features: int
    deform_groups: int
    max_residue: float
    groups: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        feats: Float[Array, "b h w _"],
        cond: Float[Array, "b h w c"],
        flows: Sequence[Float[Array, "b h w 2"]],
    ) -> Float[Array, "b h w {self.features}"]:
        """Aligns the other frames.

        Args:
            feats: (b, h, w, n*features), the n other frames.
            cond: (b, h, w, c), the input of the offset network: warped frames, current frame,
                flows.
            flows: n flows (b, h, w, 2) from the current frame to the others.

        Returns:
            (b, h, w, features).
        """
        x = cond.astype(self.dtype)
        for i in range(3):
            x = leaky_relu(conv(x, self.features, name=f"conv_offset_{i}", dtype=self.dtype))
        # Zero initialization: alignment starts from the flow.
        init = nn.initializers.zeros_init()
        last = Conv(27 * self.deform_groups, (3, 3), kernel_init=init, name="conv_offset_3")
        # In float32: an offset is a coordinate.
        head = last(x.astype(jnp.float32))
        deform = DeformConv(self.features, self.dtype, self.groups, self.max_residue, name="deform")
        return deform(feats, head, jnp.concatenate(flows, axis=-1))


def _at_predicted_offsets(
    x: jax.Array,
    head: jax.Array,
    flows: jax.Array | None,
    weight: jax.Array,
    max_residue: float | None,
) -> jax.Array:
    """Computes `DeformConv` without bias: the arguments are those of `deform_gpu.convolve`."""
    d = head.shape[-1] // 27
    offset, mask = jnp.split(head, [18 * d], axis=-1)
    if max_residue is not None:
        offset = max_residue * jnp.tanh(offset)
    if flows is not None:
        n = flows.shape[-1] // 2
        guides = flows.reshape(*flows.shape[:-1], n, 1, 2)[..., ::-1]  # offsets are (dy, dx)
        guides = jnp.broadcast_to(guides, (*flows.shape[:-1], n, 9 * d // n, 2))
        offset = offset + guides.reshape(offset.shape)
    return deform_conv2d(x, offset, nn.sigmoid(mask), weight, None)


def _convolve(
    weight: jax.Array, x: jax.Array, ys: jax.Array, xs: jax.Array, mask: jax.Array
) -> jax.Array:
    """Sums over the taps, one after the other, with the samples of one tap in memory.

    Args:
        weight: (taps, c / groups, groups, features / groups).
        x: (b, 1, h, w, c).
        ys, xs: (b, h', w', d, taps) float32 sampling positions.
        mask: (b, h', w', d, taps).

    Returns:
        (b, h', w', features) in the dtype of `x`.
    """
    b, height, width, d, _ = ys.shape
    _, channels, groups, features = weight.shape
    look = functools.partial(_look, x.shape[2:4], _corners(x, d, with_pixels=True))

    @jax.checkpoint
    def tap(out: jax.Array, inputs: tuple) -> tuple[jax.Array, None]:
        weight, ys, xs, mask = inputs
        samples = look(jnp.int32(0), ys, xs, mask).reshape(b, -1, groups, channels)
        return out + jnp.einsum(
            "bngi,igo->bngo", samples, weight, preferred_element_type=jnp.float32
        ), None

    places = (x.reshape(b, -1, *x.shape[3:]).transpose(3, 0, 2, 1) for x in (ys, xs, mask))
    out = jnp.zeros((b, height * width, groups, features), jnp.float32)
    out, _ = jax.lax.scan(tap, out, (weight, *places))
    return out.reshape(b, height, width, -1).astype(x.dtype)


def _attend_at_offsets(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    offset: jax.Array,
    window: tuple[int, int],
    train: bool,
) -> jax.Array:
    """Computes `deform_attention`: the arguments are those of `deform_attention_gpu.attend`."""
    _, _, h, w, _, channels = q.shape
    kh, kw = window
    tap_y, tap_x = jnp.divmod(jnp.arange(kh * kw, dtype=jnp.float32), kw)
    rows, columns = jnp.arange(h, dtype=jnp.float32), jnp.arange(w, dtype=jnp.float32)
    ys = rows[:, None, None, None, None] + tap_y - kh // 2 + offset[..., 0]
    xs = columns[:, None, None, None] + tap_x - kw // 2 + offset[..., 1]
    attend = _attend if train else _attend_by_platform
    kv, scale = jnp.concatenate([k, v], axis=-1), jnp.asarray(channels**-0.5, q.dtype)
    return spatial_sharding.sample(attend, kv, q * scale, ys, xs, axis=2)


def _attend(kv: jax.Array, q: jax.Array, ys: jax.Array, xs: jax.Array) -> jax.Array:
    """Attends to the taps, one after the other, with the samples of one tap in memory.

    Args:
        kv: (b, t, h, w, 2*c).
        q: (b, t, h', w', heads, c / heads), scaled.
        ys, xs: (b, t, h', w', slots, d, taps) float32 sampling positions.

    Returns:
        (b, t, h', w', c) in the dtype of `kv`.
    """
    return _attend_to(kv.shape[2:4], _corners(kv, ys.shape[-2]), q, ys, xs)


def _attend_by_platform(*arrays: jax.Array) -> jax.Array:
    """`_attend`, on a CPU and on a TPU for a few rows of the frames at a time."""
    return jax.lax.platform_dependent(
        *arrays, cpu=_attend_in_chunks, tpu=_attend_in_chunks, default=_attend
    )


def _attend_in_chunks(kv: jax.Array, q: jax.Array, ys: jax.Array, xs: jax.Array) -> jax.Array:
    """`_attend` for a few rows at a time, whose samples fit a cache or vector memory."""
    _, t, _, width, slots, d, _ = ys.shape
    corners, size = _corners(kv, d), kv.shape[2:4]
    samples = t * width * slots * d * corners.rows.shape[-1]  # of a row, for one tap

    def attend_rows(corners: _Corners, rows: tuple[jax.Array, ...]) -> jax.Array:
        places = (jnp.moveaxis(x, 0, 1)[None] for x in rows)
        clip = jax.tree.map(lambda x: x[None], corners)
        return jnp.moveaxis(_attend_to(size, clip, *places)[0], 1, 0)

    @jax.vmap
    def attend_clip(corners: _Corners, *rows: jax.Array) -> jax.Array:
        return map_chunks(attend_rows, corners, rows, largest=samples)

    out = attend_clip(corners, *(jnp.moveaxis(x, 2, 1) for x in (q, ys, xs)))
    return jnp.moveaxis(out, 1, 2)


def _attend_to(
    size: tuple[int, ...], corners: _Corners, q: jax.Array, ys: jax.Array, xs: jax.Array
) -> jax.Array:
    """`_attend` to keys and values of frames of (h, w), given as `_corners`."""
    b, t, height, width, slots, _, _ = ys.shape
    q = q.reshape(b, t, height * width, *q.shape[4:])
    frames = (jnp.arange(t)[:, None] + jnp.arange(slots)) % t
    look: Any = functools.partial(_look, size, corners)

    @jax.checkpoint
    def tap(state: tuple, place: tuple) -> tuple[tuple, None]:
        # Running softmax: the largest logit, the sum of weights, and of weighted values.
        most, total, out = state
        samples = look(frames[:, :, None, None], *place, jnp.float32(1))
        k, v = jnp.moveaxis(samples.reshape(*samples.shape[:-1], 2, *q.shape[3:]), -3, 0)
        logits = jnp.einsum("btnhd,btsnhd->btsnh", q, k, preferred_element_type=jnp.float32)
        more = jnp.maximum(most, jax.lax.stop_gradient(logits.max(2)))
        weights, shrunk = jnp.exp(logits - more[:, :, None]), jnp.exp(most - more)
        sums = jnp.einsum(
            "btsnh,btsnhd->btnhd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
        )
        return (more, total * shrunk + weights.sum(2), out * shrunk[..., None] + sums), None

    places = tuple(x.reshape(b, t, -1, *x.shape[4:]).transpose(5, 0, 1, 3, 4, 2) for x in (ys, xs))
    zero = jnp.zeros(q.shape[:-1], jnp.float32)
    state = (zero - jnp.inf, zero, jnp.zeros(q.shape, jnp.float32))
    (_, total, out), _ = jax.lax.scan(tap, state, places)
    return (out / total[..., None]).reshape(b, t, height, width, -1).astype(corners.rows.dtype)


def _corners(x: jax.Array, d: int, with_pixels: bool = False) -> _Corners:
    """Prepares clips (b, t, h, w, c) for `_look`, in `d` groups with positions of their own."""
    b, _, height, width, c = x.shape
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    padded = padded.reshape(*padded.shape[:4], d, c // d)
    corners = [padded[:, :, i : height + 1 + i, j : width + 1 + j] for i in (0, 1) for j in (0, 1)]
    rows = jnp.stack(corners, axis=5).reshape(b, -1, 4 * (c // d))
    pixels = jax.lax.stop_gradient(padded).reshape(b, -1, c // d) if with_pixels else None
    return _Corners(rows, pixels)


def _look(
    size: tuple[int, ...],
    corners: _Corners,
    frame: jax.Array,
    ys: jax.Array,
    xs: jax.Array,
    scale: jax.Array,
) -> jax.Array:
    """Samples clips bilinearly; zero outside the frame.

    Args:
        size: (h, w) of the frames.
        corners: of `_corners`.
        frame: int32 index of the sampled frame; broadcasts to the shape of `ys`.
        ys, xs: (b, ..., d, n) float32 positions. Positions are the last axis because a TPU pads it
            to a multiple of 128, and a group has fewer channels.
        scale: float32, multiplies the samples; broadcasts to the shape of `ys`.

    Returns:
        (b, ..., n, c) in the dtype of the clips.
    """
    b, (height, width), d = ys.shape[0], size, ys.shape[-2]
    y0, x0 = jnp.floor(ys), jnp.floor(xs)
    inside = (y0 >= -1) & (y0 < height) & (x0 >= -1) & (x0 < width)
    scale = jnp.broadcast_to(scale, ys.shape)
    wy, wx, inside, scale = (v.reshape(b, -1) for v in (ys - y0, xs - x0, inside, scale))
    # Clipped before the cast, so that a diverged offset does not overflow the integers.
    y0 = jnp.clip(y0, -1, height - 1).astype(jnp.int32) + 1
    x0 = jnp.clip(x0, -1, width - 1).astype(jnp.int32) + 1
    group = jnp.arange(d)[:, None]
    row, pixel = (
        (((frame * (height + n) + y0) * (width + n) + x0) * d + group).reshape(b, -1, 1)
        for n in (1, 2)
    )
    areas = (1 - wy) * (1 - wx), (1 - wy) * wx, wy * (1 - wx), wy * wx
    weights = tuple(jnp.where(inside, area * scale, 0) for area in areas)
    if corners.pixels is None:
        samples = _weighted_rows(row, corners.rows, weights)
    else:
        four = tuple(pixel + (i * (width + 2) + j) * d for i in (0, 1) for j in (0, 1))
        samples = _weighted(corners, row, four, weights)
    samples = samples.astype(corners.rows.dtype)
    samples = jnp.moveaxis(samples.reshape(*ys.shape, -1), -3, -2)
    return samples.reshape(*samples.shape[:-2], -1)


@jax.custom_vjp
def _weighted(
    corners: _Corners,
    row: jax.Array,
    pixels: tuple[jax.Array, ...],
    weights: tuple[jax.Array, ...],
) -> jax.Array:
    """Sums four pixels; its gradient is that of `_weighted_rows`.

    Args:
        corners: of `_corners`.
        row: (b, n, 1) index of a row.
        pixels: (b, n, 1) index of each pixel.
        weights: (b, n) float32 of each pixel.

    Returns:
        (b, n, c / d) float32.
    """

    def by_pixels(corners, row, pixels, weights):
        gather = functools.partial(jnp.take_along_axis, axis=1, mode="promise_in_bounds")
        pairs = zip(pixels, weights, strict=True)
        parts = (gather(corners.pixels, pixel) * weight[..., None] for pixel, weight in pairs)
        return functools.reduce(jnp.add, parts)

    def by_rows(corners, row, pixels, weights):
        return _weighted_rows(row, corners.rows, weights)

    return jax.lax.platform_dependent(corners, row, pixels, weights, cpu=by_pixels, default=by_rows)


def _weighted_rows(row: jax.Array, rows: jax.Array, weights: tuple[jax.Array, ...]) -> jax.Array:
    """Sums the four pixels of each row of a table, with weights."""
    taken = jnp.take_along_axis(rows, row, axis=1).reshape(*row.shape[:2], 4, -1)
    stacked = jnp.stack(weights, axis=-1)
    return jnp.einsum("brkc,brk->brc", taken, stacked, precision=jax.lax.Precision.HIGHEST)


def _weighted_forward(
    corners: _Corners, row: jax.Array, pixels: Any, weights: tuple[jax.Array, ...]
) -> tuple[jax.Array, Any]:
    return jax.vjp(functools.partial(_weighted_rows, row), corners.rows, weights)


def _weighted_backward(pull: Any, gradient: jax.Array) -> tuple:
    of_rows, of_weights = pull(gradient)
    return _Corners(of_rows, None), None, None, of_weights


_weighted.defvjp(_weighted_forward, _weighted_backward)
