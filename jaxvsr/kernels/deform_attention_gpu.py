"""Attention of each pixel to a window of its own, as one GPU kernel in Pallas' Triton dialect.

The plain forms write the keys and values of each pixel to memory and read them again. Here they
stay in registers: a program gathers them for some pixels and keeps a running softmax.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxvsr.kernels import triton

WARPS = 4  # per program


def serves(q: jax.Array, k: jax.Array, v: jax.Array, offset: jax.Array | None = None) -> bool:
    """Whether the kernel can compute `attend` where the traced function will run."""
    heads, groups = q.shape[-2], _groups(q, offset)
    # A head lies in one group of the keys, and in one of the values.
    whole = groups % 2 == 0 and heads % (groups // 2) == 0
    return whole and triton.serves(q.shape[0], q.shape[2])


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    offset: jax.Array | None = None,
    *,
    window: tuple[int, int],
    interpret: bool = False,
) -> jax.Array:
    """Attends to a window around each pixel in all frames, whose taps may be moved.

    Args:
        q: (b, t, h, w, heads, c / heads), before scaling.
        k, v: (b, t, h, w, c); zero outside, and sampled bilinearly if there are offsets.
        offset: (b, t, h, w, t, d, taps, 2) float32 displacements (dy, dx) of the taps, or None;
            slot n of frame i samples frame (i + n) mod t, the first half of the groups the keys.
        window: (kh, kw).
        interpret: whether the kernel is interpreted, on any platform.

    Returns:
        (b, t, h, w, c) in the dtype of `v`.
    """
    call = functools.partial(_call, window, interpret)
    if offset is None:
        rule = "b t y x h e, b t y x k, b t y x v -> b t y x o"
        return triton.by_clips(call, rule, whole="t y x h e k v o")(q, k, v)
    rule = "b t y x h e, b t y x k, b t y x v, b t y x s d n i -> b t y x o"
    return triton.by_clips(call, rule, whole="t y x h e k v s d n i o")(q, k, v, offset)


def _groups(q: jax.Array, offset: jax.Array | None) -> int:
    """Deformable groups of keys and values together; without offsets each head is one of each."""
    return 2 * q.shape[-2] if offset is None else offset.shape[-3]


def _call(window: tuple[int, int], interpret: bool, *inputs: jax.Array) -> jax.Array:
    """Calls the kernel; the inputs are those of `attend`."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton as plgpu

    q, _, v, *offset = inputs
    *shape, heads, channels = q.shape
    _, frames, height, width = shape
    groups = _groups(q, offset[0] if offset else None)
    pairs = groups // 2  # a group of keys and one of values, of the same heads
    sides = heads // pairs, channels
    tile = triton.padded(sides[0]), triton.padded(channels)
    # 16 bytes in each thread: one load, few registers, and many threads to hide the gathers.
    block = max(1, WARPS * 32 * 16 // (v.dtype.itemsize * tile[0] * tile[1]))
    pixels = q.size // (heads * channels)
    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    out = pl.pallas_call(
        functools.partial(_kernel, (frames, height, width), groups, window, sides, (block, *tile)),
        grid=(pl.cdiv(pixels, block) * pairs,),
        in_specs=[anywhere] * len(inputs),
        out_specs=anywhere,
        out_shape=jax.ShapeDtypeStruct((pixels, heads * channels), v.dtype),
        compiler_params=plgpu.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=interpret,
        name="deform_attention" if offset else "neighborhood_attention",
    )(*(x.reshape(pixels, -1) for x in inputs))
    return out.reshape(*shape, -1)


def _kernel(
    size: tuple[int, int, int],
    groups: int,
    window: tuple[int, int],
    sides: tuple[int, int],
    tile: tuple[int, int, int],
    *arrays: Any,
) -> None:
    """Attends from some pixels, by the heads of one group of keys and one of values.

    Args:
        size: (t, h, w) of a clip.
        groups: of keys and values together.
        window: (kh, kw).
        sides: heads of a group, and channels of a head.
        tile: (pixels of the program, heads, channels), the last two padded.
        *arrays: references to q, k and v, (pixels, channels), to the offsets, if there are some,
            (pixels, t * d * taps * 2), and to the output, (pixels, channels).
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton as plgpu

    q, k, v, *offset, out = arrays
    frames, height, width = size
    taps, pairs, program = window[0] * window[1], groups // 2, pl.program_id(0)
    # Programs of the same pixels are neighbors: they share cache lines.
    pair, first = jax.lax.rem(program, pairs), jax.lax.div(program, pairs) * tile[0]
    pixel, head, channel = (
        jax.lax.broadcasted_iota(jnp.int32, [n if i == axis else 1 for i in range(3)], axis)
        for axis, n in enumerate(tile)
    )
    pixel = pixel + first
    written = (pixel < q.shape[0]) & (head < sides[0]) & (channel < sides[1])
    inside = pixel < q.shape[0]
    place = (pair * sides[0] + head) * sides[1] + channel
    line, column = jax.lax.div(pixel, width), jax.lax.rem(pixel, width)
    frame, row = jax.lax.div(line, height), jax.lax.rem(line, height)
    clip, frame = jax.lax.div(frame, frames), jax.lax.rem(frame, frames)
    query = plgpu.load(q.at[pixel, place], mask=written, other=0.0).astype(jnp.float32)
    query *= sides[1] ** -0.5

    def look(
        table: Any, slot: jax.Array, y: jax.Array, x: jax.Array, near: jax.Array, weight: Any
    ) -> jax.Array:
        there = near & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        start = (clip * frames + jax.lax.rem(frame + slot, frames)) * height
        index = jnp.where(there, (start + y) * width + x, 0)
        values = plgpu.load(table.at[index, place], mask=there & written, other=0.0)
        return values.astype(jnp.float32) * jnp.where(there, weight, 0.0)

    def sample(table: Any, group: jax.Array, slot: jax.Array, tap: jax.Array) -> jax.Array:
        y = row + jax.lax.div(tap, window[1]) - window[0] // 2
        x = column + jax.lax.rem(tap, window[1]) - window[1] // 2
        if not offset:
            return look(table, slot, y, x, inside, 1.0)
        step = 2 * ((slot * groups + group) * taps + tap)
        dy, dx = (
            plgpu.load(
                offset[0].at[pixel, jnp.full(pixel.shape, step + axis)], mask=inside, other=0.0
            )
            for axis in (0, 1)
        )
        ys, xs = y.astype(jnp.float32) + dy, x.astype(jnp.float32) + dx
        top, left = jnp.floor(ys), jnp.floor(xs)
        near = inside & (top >= -1) & (top < height) & (left >= -1) & (left < width)
        wy, wx = ys - top, xs - left
        # Not cast where they would overflow the integers.
        top = jnp.where(near, top, 0.0).astype(jnp.int32)
        left = jnp.where(near, left, 0.0).astype(jnp.int32)
        total = jnp.zeros(tile, jnp.float32)
        for i, weight_y in ((0, 1 - wy), (1, wy)):
            for j, weight_x in ((0, 1 - wx), (1, wx)):
                total += look(table, slot, top + i, left + j, near, weight_y * weight_x)
        return total

    def attend_to(point: jax.Array, state: tuple) -> tuple:
        # Running softmax: the largest logit, the sum of weights, and of weighted values.
        most, total, mean = state
        slot, tap = jax.lax.div(point, taps), jax.lax.rem(point, taps)
        logits = (query * sample(k, pair, slot, tap)).sum(2, keepdims=True)
        more = jnp.maximum(most, logits)
        values = sample(v, pairs + pair, slot, tap)
        weight, shrunk = jnp.exp(logits - more), jnp.exp(most - more)
        return more, total * shrunk + weight, mean * shrunk + weight * values

    zero = jnp.zeros((*tile[:2], 1), jnp.float32)
    state = zero - jnp.inf, zero, jnp.zeros(tile, jnp.float32)
    _, total, mean = jax.lax.fori_loop(0, frames * taps, attend_to, state)
    plgpu.store(out.at[pixel, place], (mean / total).astype(out.dtype), mask=written)
