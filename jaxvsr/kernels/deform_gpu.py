"""Deformable convolution as one GPU kernel, in Pallas' Triton dialect.

The plain form writes the samples of each tap to memory and reads them again. Here they stay in
registers: a program computes the output of some pixels from the gathered corners of their samples.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxvsr.kernels import triton

TAPS = 9  # of a 3x3 kernel
WARPS = 8  # per program


def convolve(
    x: jax.Array,
    head: jax.Array,
    flows: jax.Array | None,
    weight: jax.Array,
    max_residue: float | None,
    interpret: bool = False,
) -> jax.Array:
    """Computes a 3x3 modulated deformable convolution of stride 1 from its predicted offsets.

    Args:
        x: (b, h, w, c); zero outside.
        head: (b, h, w, 27*d) float32, residues of offsets and then logits of masks, ordered as in
            `deform.deform_conv2d`.
        flows: (b, h, w, 2*n) float32 (dx, dy) of n frames, each added to the offsets of d/n groups.
        weight: (3, 3, c / groups, features).
        max_residue: bound of the residues, by tanh; None: no bound.
        interpret: whether the kernel is interpreted, on any platform.

    Returns:
        (b, h, w, features) in the dtype of `x`.
    """
    c, d = x.shape[-1], head.shape[-1] // (3 * TAPS)
    _, _, channels, features = weight.shape
    if flows is None:
        flows = jnp.zeros((*head.shape[:3], 2), jnp.float32)
    # Convolution groups as one with zeros between them, sides as powers of two: Triton's products.
    groups = c // channels
    weight = weight.astype(x.dtype).reshape(TAPS, channels, groups, features // groups)
    weight = jnp.einsum("tigo,gj->tjigo", weight, jnp.eye(groups, dtype=x.dtype))
    weight = weight.reshape(TAPS, d, c // d, features)
    sides = [0, *(triton.padded(side) - side for side in weight.shape[1:])]
    # A product has at least 16 channels.
    sides[2] += max(0, 16 // triton.padded(d) - triton.padded(c // d))
    sides[3] = max(sides[3], 16 - features)
    weight = jnp.pad(weight, [(0, side) for side in sides])
    launch = _launch(features, max_residue, interpret)
    return launch(x, head.astype(jnp.float32), flows.astype(jnp.float32), weight)


def _launch(features: int, max_residue: float | None, interpret: bool) -> Callable[..., jax.Array]:
    """Makes the call of the kernel, whose clips may be divided among devices."""

    def call(x: jax.Array, head: jax.Array, flows: jax.Array, weight: jax.Array) -> jax.Array:
        from jax.experimental import pallas as pl
        from jax.experimental.pallas import triton as plgpu

        b, height, width, _ = x.shape
        pixels = b * height * width
        # The sampled values of a program are 16 in each thread.
        block = max(16, WARPS * 32 * 16 // (weight.shape[1] * weight.shape[2]))
        kernel = functools.partial(_kernel, (height, width), block, max_residue)
        anywhere = pl.BlockSpec(memory_space=pl.ANY)
        out = pl.pallas_call(
            kernel,
            grid=(pl.cdiv(pixels, block),),
            in_specs=[anywhere] * 4,
            out_specs=anywhere,
            out_shape=jax.ShapeDtypeStruct((pixels, features), x.dtype),
            compiler_params=plgpu.CompilerParams(num_warps=WARPS, num_stages=1),
            interpret=interpret,
            name="deform_conv",
        )(*(y.reshape(pixels, -1) for y in (x, head, flows)), weight)
        return out.reshape(b, height, width, features)

    rule = "b y x c, b y x o, b y x n, t g i f -> b y x k"
    return triton.by_clips(call, rule, whole="y x c o n t g i f k")


def _kernel(
    size: tuple[int, int],
    block: int,
    max_residue: float | None,
    x: Any,
    head: Any,
    flows: Any,
    weight: Any,
    out: Any,
) -> None:
    """Computes `block` pixels of the output.

    Args:
        size: (h, w) of a frame.
        block: number of pixels.
        max_residue: as in `convolve`.
        x, head, flows: references to (pixels, channels).
        weight: reference to (taps, d, c / d, features), the last three padded.
        out: reference to (pixels, features).
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton as plgpu

    height, width = size
    pixels, c = x.shape
    d, steps = head.shape[1] // (3 * TAPS), TAPS * head.shape[1] // (3 * TAPS)
    _, groups, channels, features = weight.shape  # padded
    pixel = pl.program_id(0) * block + jnp.arange(block)
    group, channel = jnp.arange(groups), jnp.arange(channels)
    line, column = jax.lax.div(pixel, width), jax.lax.rem(pixel, width)
    row = jax.lax.rem(line, height)
    first = (pixel - row * width - column)[:, None]  # of the frame
    inside = (pixel < pixels)[:, None] & (group < d)
    whole = channel < c // d
    place = (group[:, None] * (c // d) + channel)[None]

    def read(table: Any, step: jax.Array) -> jax.Array:
        at = table.at[pixel[:, None], step[None]]
        return plgpu.load(at, mask=inside, other=0.0)

    def accumulate(tap: jax.Array, total: jax.Array) -> jax.Array:
        step = group * TAPS + tap
        frame = jax.lax.div(step * (flows.shape[1] // 2), steps)
        dy, dx = (read(head, 2 * step + axis) for axis in (0, 1))
        if max_residue is not None:
            dy, dx = max_residue * jnp.tanh(dy), max_residue * jnp.tanh(dx)
        dy, dx = dy + read(flows, 2 * frame + 1), dx + read(flows, 2 * frame)
        ys = (row + (jax.lax.div(tap, 3) - 1)).astype(jnp.float32)[:, None] + dy
        xs = (column + (jax.lax.rem(tap, 3) - 1)).astype(jnp.float32)[:, None] + dx
        mask = jax.nn.sigmoid(read(head, 2 * steps + step))

        y0, x0 = jnp.floor(ys), jnp.floor(xs)
        near = inside & (y0 >= -1) & (y0 < height) & (x0 >= -1) & (x0 < width)
        wy, wx = ys - y0, xs - x0
        # Not cast where they would overflow the integers.
        y0 = jnp.where(near, y0, 0.0).astype(jnp.int32)
        x0 = jnp.where(near, x0, 0.0).astype(jnp.int32)

        def corner(y: jax.Array, x_: jax.Array, factor: jax.Array) -> jax.Array:
            there = near & (y >= 0) & (y < height) & (x_ >= 0) & (x_ < width)
            index = jnp.where(there, first + y * width + x_, 0)
            values = plgpu.load(
                x.at[index[:, :, None], place], mask=there[:, :, None] & whole, other=0.0
            )
            return values.astype(jnp.float32) * jnp.where(there, factor * mask, 0.0)[:, :, None]

        samples = (
            corner(y0, x0, (1 - wy) * (1 - wx))
            + corner(y0, x0 + 1, (1 - wy) * wx)
            + corner(y0 + 1, x0, wy * (1 - wx))
            + corner(y0 + 1, x0 + 1, wy * wx)
        )
        samples = samples.astype(weight.dtype).reshape(block, groups * channels)
        taken = weight[tap].reshape(groups * channels, features)
        return total + jnp.dot(samples, taken, preferred_element_type=jnp.float32)

    total = jax.lax.fori_loop(0, TAPS, accumulate, jnp.zeros((block, features), jnp.float32))
    feature = jnp.arange(features)
    written = (pixel < pixels)[:, None] & (feature < out.shape[1])
    plgpu.store(out.at[pixel[:, None], feature[None]], total.astype(out.dtype), mask=written)
