"""The window block of PSRT, IIA-VSR and MIA-VSR as one kernel for NVIDIA GPUs, in Pallas' Triton.

A program of the kernel computes 64 queries of a window, from the residual stream to the residual
stream: nothing but its tokens passes through main memory. Channels and the dimensions of heads are
padded to powers of two, which Triton needs.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float, Int

from jaxvsr.kernels.block_tables import BlockTables, Gate

# Tokens and hidden channels of one matrix product. With twice the keys or half the warps registers
# are spilled on an H100.
QUERIES, KEYS, HIDDEN = 64, 32, 32
WARPS = 8


class Packed(NamedTuple):
    """BlockTables as the kernel reads them: padded, by head, matrices in the tokens' dtype.

    Attributes:
        query, key, value: from tokens to heads.
        query_offset: float32.
        key_offset, value_offset: in the tokens' dtype.
        logits: by tiles, in the tokens' dtype.
        proj: from heads to tokens.
        fc1, fc2: by parts of the hidden channels.
        fc1_offset, proj_offset, fc2_offset: float32.
    """

    query: Float[Array, "heads c d"]
    query_offset: Float[Array, "heads d"]
    key: Float[Array, "heads c d"]
    key_offset: Float[Array, "kinds heads keys d"]
    value: Float[Array, "heads c d"]
    value_offset: Float[Array, "kinds heads keys d"]
    logits: Float[Array, "kinds heads query_tiles key_tiles {QUERIES} {KEYS}"]
    proj: Float[Array, "heads d c"]
    proj_offset: Float[Array, " c"]
    fc1: Float[Array, "parts c {HIDDEN}"]
    fc1_offset: Float[Array, "parts {HIDDEN}"]
    fc2: Float[Array, "parts {HIDDEN} c"]
    fc2_offset: Float[Array, " c"]


def fits(bias: jax.Array, dim: int, dtype: Any) -> bool:
    """Whether the kernel computes blocks of this kind, on a GPU.

    Not in float32, in which it would have no tensor cores.

    Args:
        bias: (heads, queries, keys), of relative positions.
        dim: channels.
        dtype: of the computation.
    """
    heads, queries, keys = bias.shape
    tiles = queries % QUERIES == 0 and keys % KEYS == 0
    small = dim <= 128 and dim % heads == 0 and dim // heads <= 64
    return dtype in (jnp.bfloat16, jnp.float16) and tiles and small


@functools.partial(jax.jit, static_argnames=("skip", "interpret"))
def refine(
    tables: BlockTables,
    kind: Int[Array, " w"],
    x: Float[Array, "w queries c"],
    neighbors: Float[Array, "w others c"] | None,
    gate: Gate | None,
    *,
    skip: bool,
    interpret: bool = False,
) -> Any:
    """Computes a block of all windows.

    Args:
        tables: of the block.
        kind: of each window, an index into the tables.
        x: the tokens that are refined.
        neighbors: the other tokens of the windows, normalized; None: there are none.
        gate: which tokens are computed; None: all. Dropped tokens need only the sum of the outputs
            of attention and MLP: it is kept as `attn`, and `hidden` is not read.
        skip: whether the arithmetic of tiles without a computed query is skipped.
        interpret: whether the kernel is interpreted, on any device.

    Returns:
        The refined tokens (w, queries, c); with a gate also the sum of the outputs of
        attention and MLP.
    """
    windows, queries, dim = x.shape
    wide = padded(dim)
    packed = _pack(tables, x.dtype)
    tile = pl.BlockSpec((None, QUERIES, wide), lambda i, j: (i, j, 0))

    def of_window(tokens: jax.Array) -> pl.BlockSpec:
        return pl.BlockSpec((None, tokens.shape[1], wide), lambda i, j: (i, 0, 0))

    def whole(table: jax.Array) -> pl.BlockSpec:
        return pl.BlockSpec(table.shape, lambda i, j: (0,) * table.ndim)

    memory = None if gate is None else (gate.mask, gate.attn)
    inputs = kind, x, neighbors, packed, memory
    specs = (
        pl.BlockSpec((1,), lambda i, j: (i,)),
        of_window(x),
        None if neighbors is None else of_window(neighbors),
        jax.tree.map(whole, packed),
        memory and (pl.BlockSpec((None, QUERIES, 1), lambda i, j: (i, j, 0)), tile),
    )
    results = 2 if gate else 1
    out = pl.pallas_call(
        functools.partial(_window_block, dim=dim, skip=skip),
        grid=(windows, queries // QUERIES),
        in_specs=specs,
        out_specs=[tile] * results,
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype)] * results,
        # The sum takes the place of the previous frame's.
        input_output_aliases={len(jax.tree.leaves(inputs)) - 1: 1} if gate else {},
        compiler_params=plgpu.CompilerParams(num_warps=WARPS, num_stages=1),
        cost_estimate=_cost(tables, inputs, x, results),
        interpret=interpret,
        name="window_block",
    )(*inputs)
    return tuple(out) if gate else out[0]


def _window_block(
    kind_ref: Any,
    x_ref: Any,
    neighbors_ref: Any,
    weights: Packed,
    memory: tuple[Any, Any] | None,
    y_ref: Any,
    *added_refs: Any,
    dim: int,
    skip: bool,
) -> None:
    """Computes a tile of queries: the body of the kernel.

    Args:
        kind_ref: (1,).
        x_ref, neighbors_ref: (tokens, c) of the window; None: there are no neighbors.
        weights: references of the tables.
        memory: references of the tile's mask and of the previous frame's sum; None: no gate.
        y_ref: of the refined tile.
        added_refs: of the sum of the outputs of attention and MLP, with a gate.
        dim: channels.
        skip: as in `refine`.
    """
    tiles = x_ref.shape[0] // QUERIES
    tile = pl.program_id(1) if tiles > 1 else 0
    dtype, (mask_ref, last_ref) = x_ref.dtype, memory or (None, None)

    def residual() -> jax.Array:
        return load(x_ref, tile * QUERIES, QUERIES, dim).astype(jnp.float32)

    def last() -> jax.Array:
        return load(last_ref, 0, QUERIES, dim).astype(jnp.float32)

    def compute() -> None:
        normed = normalize(residual(), dim).astype(dtype)
        attn = _attention(kind_ref[0], tile, normed, x_ref, neighbors_ref, weights, dim)
        x = (residual() + attn).astype(dtype)
        attn = attn.astype(dtype)  # which takes fewer registers than float32
        hidden = _mlp(normalize(x.astype(jnp.float32), dim).astype(dtype), weights)
        if mask_ref is None:
            return store(y_ref, x + hidden, dim)
        added = jnp.where(mask_ref[...] > 0, attn + hidden, last())
        store(added_refs[0], added, dim)
        store(y_ref, residual() + added, dim)

    if mask_ref is None or not skip:
        return compute()
    some = mask_ref[...].max() > 0
    pl.when(some)(compute)

    @pl.when(jnp.logical_not(some))
    def _() -> None:  # the sum stays where it is
        store(y_ref, residual() + last(), dim)


def _attention(
    kind: Any,
    tile: Any,
    normed: jax.Array,
    x_ref: Any,
    neighbors_ref: Any,
    weights: Packed,
    dim: int,
) -> jax.Array:
    """Attention of a tile of queries to all tokens of its window, and its projection."""
    dtype = normed.dtype
    head_dim = weights.query.shape[2]

    def head(h: Any, total: jax.Array) -> jax.Array:
        q = (_dot(normed, weights.query[h]) + weights.query_offset[h][None]).astype(dtype)

        def attend(tokens: jax.Array, j: Any, state: tuple) -> tuple:
            """Adds a tile of keys to a running softmax: its maximum, its sum and its values."""
            highest, weight, out = state
            rows = pl.ds(j * KEYS, KEYS)
            k = _dot(tokens, weights.key[h]) + weights.key_offset[kind, h, rows]
            logits = _dot(q, k.astype(dtype).T) + weights.logits[kind, h, tile, j]
            v = _dot(tokens, weights.value[h]) + weights.value_offset[kind, h, rows]
            higher = jnp.maximum(highest, logits.max(1))
            p, before = jnp.exp(logits - higher[:, None]), jnp.exp(highest - higher)
            out = out * before[:, None] + _dot(p.astype(dtype), v.astype(dtype))
            return higher, weight * before + p.sum(1), out

        def neighbor(j: Any, state: tuple) -> tuple:
            return attend(load(neighbors_ref, j * KEYS, KEYS, dim), j, state)

        def own(j: Any, state: tuple) -> tuple:
            tokens = load(x_ref, j * KEYS, KEYS, dim).astype(jnp.float32)
            return attend(normalize(tokens, dim).astype(dtype), others + j, state)

        others = neighbors_ref.shape[0] // KEYS if neighbors_ref is not None else 0
        state = (
            jnp.full((QUERIES,), -jnp.inf, jnp.float32),
            jnp.zeros((QUERIES,), jnp.float32),
            jnp.zeros((QUERIES, head_dim), jnp.float32),
        )
        if others:
            state = jax.lax.fori_loop(0, others, neighbor, state)
        _, weight, out = jax.lax.fori_loop(0, x_ref.shape[0] // KEYS, own, state)
        return total + _dot((out / weight[:, None]).astype(dtype), weights.proj[h])

    total = jnp.zeros(normed.shape, jnp.float32)
    heads = weights.query.shape[0]
    return jax.lax.fori_loop(0, heads, head, total) + weights.proj_offset[...][None]


def _mlp(normed: jax.Array, weights: Packed) -> jax.Array:
    """MLP of normalized tokens."""

    def part(i: Any, total: jax.Array) -> jax.Array:
        hidden = _gelu(_dot(normed, weights.fc1[i]) + weights.fc1_offset[i][None])
        return total + _dot(hidden.astype(normed.dtype), weights.fc2[i])

    total = jnp.zeros(normed.shape, jnp.float32)
    return jax.lax.fori_loop(0, weights.fc1.shape[0], part, total) + weights.fc2_offset[...][None]


def _gelu(x: jax.Array) -> jax.Array:
    """Exact GELU but for 1.5e-7 in erf, which Triton's lowering does not have.

    Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26.
    """
    z = jnp.abs(x) * 0.5**0.5
    t = 1 / (1 + 0.3275911 * z)
    poly = jnp.zeros_like(t)
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        poly = (poly + coefficient) * t
    tail = 0.5 * poly * jnp.exp(-z * z)  # probability of a normal variable beyond |x|
    return x * jnp.where(x > 0, 1 - tail, tail)


def normalize(x: jax.Array, dim: int) -> jax.Array:
    """Layer norm without affine part, of float32 tokens whose channels are padded with zeros."""
    real = _real(x.shape[1], dim)
    for _ in range(2):  # the second time what rounding left of a large mean
        x = jnp.where(real, x - x.sum(1, keepdims=True) / dim, 0.0)
    return x * jax.lax.rsqrt((x * x).sum(1, keepdims=True) / dim + 1e-5)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Matrix product in float32; Triton's own precision for float32 inputs is TF32."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return jnp.dot(a, b, precision=precision, preferred_element_type=jnp.float32)


def load(ref: Any, start: Any, count: int, dim: int) -> jax.Array:
    """Reads tokens, with zeros in the channels of padding."""
    wide = padded(dim)
    return plgpu.load(ref.at[pl.ds(start, count), pl.ds(0, wide)], mask=_real(wide, dim), other=0.0)


def store(ref: Any, tokens: jax.Array, dim: int) -> None:
    """Writes tokens without the channels of padding."""
    wide = padded(dim)
    plgpu.store(ref.at[:, pl.ds(0, wide)], tokens.astype(ref.dtype), mask=_real(wide, dim))


def _real(wide: int, dim: int) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, (1, wide), 1) < dim


def padded(size: int) -> int:
    """The next power of two, at least 16: Triton's least side of a matrix product."""
    return max(16, pl.next_power_of_2(size))


def _pack(tables: BlockTables, dtype: Any) -> Packed:
    kinds, heads, queries, keys = tables.logits.shape
    dim, hidden = tables.fc1.shape
    each = dim // heads
    wide, deep, parts = padded(dim), padded(each), -(-hidden // HIDDEN)

    def pad(x: jax.Array, *shape: int) -> jax.Array:
        return jnp.pad(x, [(0, size - side) for side, size in zip(x.shape, shape, strict=True)])

    def to_heads(matrix: jax.Array) -> jax.Array:
        return pad(matrix.reshape(dim, heads, each).swapaxes(0, 1), heads, wide, deep).astype(dtype)

    def offset(x: jax.Array) -> jax.Array:
        by_head = x.reshape(kinds, keys, heads, each).swapaxes(1, 2)
        return pad(by_head, kinds, heads, keys, deep).astype(dtype)

    tiled = (kinds, heads, queries // QUERIES, QUERIES, keys // KEYS, KEYS)
    fc1 = pad(tables.fc1, wide, parts * HIDDEN).reshape(wide, parts, HIDDEN).swapaxes(0, 1)
    return Packed(
        query=to_heads(tables.query),
        query_offset=pad(tables.query_offset.reshape(heads, each), heads, deep),
        key=to_heads(tables.key),
        key_offset=offset(tables.key_offset),
        value=to_heads(tables.value),
        value_offset=offset(tables.value_offset),
        logits=tables.logits.reshape(tiled).swapaxes(3, 4).astype(dtype),
        proj=pad(tables.proj.reshape(heads, each, dim), heads, deep, wide).astype(dtype),
        proj_offset=pad(tables.proj_offset, wide),
        fc1=fc1.astype(dtype),
        fc1_offset=pad(tables.fc1_offset, parts * HIDDEN).reshape(parts, HIDDEN),
        fc2=pad(tables.fc2, parts * HIDDEN, wide).reshape(parts, HIDDEN, wide).astype(dtype),
        fc2_offset=pad(tables.fc2_offset, wide),
    )


def _cost(tables: BlockTables, inputs: Any, x: jax.Array, results: int) -> pl.CostEstimate:
    """Cost of the block without padding: the plain form's FLOPs, and each array once."""
    windows, queries, dim = x.shape
    _, heads, _, keys = tables.logits.shape
    per_query = 2 * dim * dim + 2 * keys * dim + 2 * dim * tables.fc1.shape[1]
    products = windows * (queries * per_query + keys * 2 * dim * dim)
    size = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(inputs))
    return pl.CostEstimate(
        flops=2 * products,
        transcendentals=windows * queries * (heads * keys + tables.fc1.shape[1]),
        bytes_accessed=size + results * math.prod(x.shape) * x.dtype.itemsize,
    )
