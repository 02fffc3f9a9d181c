"""Deformable attention as one GPU kernel, in Pallas' Triton dialect.

The plain form writes the sampled keys and values of each tap to memory and reads them again. Here
they stay in registers: a program gathers them for some pixels and keeps a running softmax.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxvsr.kernels import triton

WARPS = 4  # per program


def serves(shape: tuple, heads: int, groups: int) -> bool:
    """Whether the kernel can attend to keys and values where the traced function will run.

    Args:
        shape: (b, t, h, w, 2*c).
        heads: attention heads.
        groups: deformable groups, of keys and values together; a head must lie in one of them.
    """
    whole = groups % 2 == 0 and heads % (groups // 2) == 0
    return whole and triton.serves(shape[0], shape[2])


def attend(
    kv: jax.Array, q: jax.Array, ys: jax.Array, xs: jax.Array, interpret: bool = False
) -> jax.Array:
    """Attends to keys and values sampled bilinearly at given positions.

    Args:
        kv: (b, t, h, w, 2*c) keys, then values; zero outside.
        q: (b, t, h, w, heads, c / heads), scaled.
        ys, xs: (b, t, h, w, t, d, taps) float32 positions; slot n of frame i samples frame
            (i + n) mod t.
        interpret: whether the kernel is interpreted, on any platform.

    Returns:
        (b, t, h, w, c) in the dtype of `kv`.
    """
    call = functools.partial(_call, interpret)
    rule = "b t y x k, b t y x h c, b t y x s d n, b t y x s d n -> b t y x o"
    return triton.by_clips(call, rule, whole="t y x k h c s d n o")(kv, q, ys, xs)


def _call(interpret: bool, kv: jax.Array, q: jax.Array, ys: jax.Array, xs: jax.Array) -> jax.Array:
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton as plgpu

    *shape, heads, channels = q.shape
    _, frames, height, width = shape
    *_, groups, taps = ys.shape
    pairs = groups // 2  # a group of keys and one of values, of the same heads
    sides = heads // pairs, channels
    tile = triton.padded(sides[0]), triton.padded(channels)
    # Four sampled values in each thread: few registers, and many threads to hide the gathers.
    block = max(1, WARPS * 32 * 4 // (tile[0] * tile[1]))
    pixels = q.size // (heads * channels)
    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    out = pl.pallas_call(
        functools.partial(_kernel, (frames, height, width), (groups, taps), sides, (block, *tile)),
        grid=(pl.cdiv(pixels, block) * pairs,),
        in_specs=[anywhere] * 4,
        out_specs=anywhere,
        out_shape=jax.ShapeDtypeStruct((pixels, heads * channels), kv.dtype),
        compiler_params=plgpu.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=interpret,
        name="deform_attention",
    )(*(y.reshape(pixels, -1) for y in (kv, q, ys, xs)))
    return out.reshape(*shape, -1)


def _kernel(
    size: tuple[int, int, int],
    points: tuple[int, int],
    sides: tuple[int, int],
    tile: tuple[int, int, int],
    kv: Any,
    q: Any,
    ys: Any,
    xs: Any,
    out: Any,
) -> None:
    """Attends from some pixels, by the heads of one group of keys and one of values.

    Args:
        size: (t, h, w) of a clip.
        points: (d, taps).
        sides: heads of a group, and channels of a head.
        tile: (pixels of the program, heads, channels), the last two padded.
        kv, q: references to (pixels, channels).
        ys, xs: references to (pixels, t * d * taps).
        out: reference to (pixels, channels).
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton as plgpu

    frames, height, width = size
    groups, taps = points
    pairs, program = groups // 2, pl.program_id(0)
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
    frame = jax.lax.div(pixel, height * width)
    clip, frame = jax.lax.div(frame, frames), jax.lax.rem(frame, frames)
    query = plgpu.load(q.at[pixel, place], mask=written, other=0.0).astype(jnp.float32)

    def sample(slot: jax.Array, tap: jax.Array, is_value: int) -> jax.Array:
        step = (slot * groups + is_value * pairs + pair) * taps + tap
        at = pixel, jnp.full(pixel.shape, step)
        y, x = (plgpu.load(z.at[at], mask=inside, other=0.0) for z in (ys, xs))
        top, left = jnp.floor(y), jnp.floor(x)
        near = inside & (top >= -1) & (top < height) & (left >= -1) & (left < width)
        wy, wx = y - top, x - left
        # Not cast where they would overflow the integers.
        top = jnp.where(near, top, 0.0).astype(jnp.int32)
        left = jnp.where(near, left, 0.0).astype(jnp.int32)
        start = (clip * frames + jax.lax.rem(frame + slot, frames)) * height
        channels = place + is_value * q.shape[1]
        total = jnp.zeros(tile, jnp.float32)
        for y, weight_y in ((top, 1 - wy), (top + 1, wy)):
            for x, weight_x in ((left, 1 - wx), (left + 1, wx)):
                there = near & (y >= 0) & (y < height) & (x >= 0) & (x < width)
                index = jnp.where(there, (start + y) * width + x, 0)
                values = plgpu.load(kv.at[index, channels], mask=there & written, other=0.0)
                total += values.astype(jnp.float32) * jnp.where(there, weight_y * weight_x, 0.0)
        return total

    def attend_to(point: jax.Array, state: tuple) -> tuple:
        # Running softmax: the largest logit, the sum of weights, and of weighted values.
        most, total, mean = state
        slot, tap = jax.lax.div(point, taps), jax.lax.rem(point, taps)
        logits = (query * sample(slot, tap, 0)).sum(2, keepdims=True)
        more = jnp.maximum(most, logits)
        weight, shrunk = jnp.exp(logits - more), jnp.exp(most - more)
        return more, total * shrunk + weight, mean * shrunk + weight * sample(slot, tap, 1)

    zero = jnp.zeros((*tile[:2], 1), jnp.float32)
    state = zero - jnp.inf, zero, jnp.zeros(tile, jnp.float32)
    _, total, mean = jax.lax.fori_loop(0, frames * taps, attend_to, state)
    plgpu.store(out.at[pixel, place], (mean / total).astype(out.dtype), mask=written)
