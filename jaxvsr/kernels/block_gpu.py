"""The window block of PSRT, IIA-VSR and MIA-VSR as kernels for NVIDIA GPUs, in Pallas' Triton.

Three kinds of kernel: tokens to queries, keys and values; attention of a head in a window; its
projection, the residual stream and the MLP. What passes between them goes through main memory, so
that each has few registers and many programs hide the latency of their loads. Channels and the
dimensions of heads are padded to powers of two within the kernels, as Triton needs.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float, Int

from jaxvsr.kernels import triton
from jaxvsr.kernels.block_tables import BlockTables, Gate

# Tokens of a program, columns and hidden channels of one matrix product.
TOKENS, COLUMNS, HIDDEN = 64, 128, 64
PROJECT_WARPS, ATTEND_WARPS, FINISH_WARPS = 8, 4, 4


class Projection(NamedTuple):
    """Dense layers side by side: a matrix, and an offset of each token in a kind of window."""

    weight: Float[Array, "c n"]
    offset: Float[Array, "kinds tokens n"]


class Packed(NamedTuple):
    """BlockTables as the kernels read them: padded, matrices in the tokens' dtype.

    Attributes:
        own: from refined tokens to queries, keys and values.
        others: from the other tokens to keys and values; None: there are none.
        logits: added to the products of queries and keys.
        proj, fc1, fc2: matrices.
        proj_offset, fc1_offset, fc2_offset: float32.
    """

    own: Projection
    others: Projection | None
    logits: Float[Array, "kinds heads queries keys"]
    proj: Float[Array, "c c"]
    proj_offset: Float[Array, " c"]
    fc1: Float[Array, "c hidden"]
    fc1_offset: Float[Array, " hidden"]
    fc2: Float[Array, "hidden c"]
    fc2_offset: Float[Array, " c"]


def fits(bias: jax.Array, dim: int, dtype: Any) -> bool:
    """Whether the kernels compute blocks of this kind, on a GPU.

    Not in float32, in which they would have no tensor cores.

    Args:
        bias: (heads, queries, keys), of relative positions.
        dim: channels.
        dtype: of the computation.
    """
    heads, queries, keys = bias.shape
    tiles = queries % TOKENS == 0 and keys % TOKENS == 0 and keys <= 4 * TOKENS
    small = dim <= 128 and dim % heads == 0 and dim // heads <= 64
    return dtype in (jnp.bfloat16, jnp.float16) and tiles and small


def pack(tables: BlockTables, dtype: Any) -> Packed:
    """Arranges the tables of a block for `refine`.

    Args:
        tables: of the block.
        dtype: of the tokens.
    """
    _, heads, queries, keys = tables.logits.shape
    kinds, _, dim = tables.key_offset.shape
    wide = padded(dim)
    # A head's last column, padded to a power of two, must be inside.
    room = padded(dim // heads) - dim // heads

    def pad(x: jax.Array, *shape: int) -> jax.Array:
        return jnp.pad(x, [(0, size - side) for side, size in zip(x.shape, shape, strict=True)])

    def side_by_side(rows: int, *parts: jax.Array) -> jax.Array:
        x = jnp.concatenate(parts, axis=-1)
        columns = -(-(x.shape[-1] + room) // COLUMNS) * COLUMNS
        return pad(x, *x.shape[:-2], rows, columns).astype(dtype)

    base = math.log2(math.e)  # the softmax is by powers of 2
    query_offset = jnp.broadcast_to(base * tables.query_offset, (kinds, queries, dim))
    offsets = tables.key_offset, tables.value_offset
    own = Projection(
        side_by_side(wide, base * tables.query, tables.key, tables.value),
        side_by_side(queries, query_offset, *(x[:, -queries:] for x in offsets)),
    )
    others = None
    if keys > queries:
        others = Projection(
            side_by_side(wide, tables.key, tables.value),
            side_by_side(keys - queries, *(x[:, :-queries] for x in offsets)),
        )
    hidden = -(-tables.fc1.shape[1] // HIDDEN) * HIDDEN
    return Packed(
        own=own,
        others=others,
        logits=(base * tables.logits).astype(dtype),
        proj=pad(tables.proj, wide, wide).astype(dtype),
        proj_offset=pad(tables.proj_offset, wide),
        fc1=pad(tables.fc1, wide, hidden).astype(dtype),
        fc1_offset=pad(tables.fc1_offset, hidden),
        fc2=pad(tables.fc2, hidden, wide).astype(dtype),
        fc2_offset=pad(tables.fc2_offset, wide),
    )


@functools.partial(jax.jit, static_argnames=("skip", "interpret"))
def refine(
    packed: Packed,
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
        packed: tables of the block.
        kind: of each window, an index into the tables.
        x: the tokens that are refined.
        neighbors: the other tokens of the windows, normalized; None: there are none.
        gate: which tokens are computed; None: all. Dropped tokens need only the sum of the outputs
            of attention and MLP: it is kept as `attn`, and `hidden` is not read.
        skip: whether the arithmetic of windows without a computed query is skipped.
        interpret: whether the kernels are interpreted, on any device.

    Returns:
        The refined tokens (w, queries, c); with a gate also the sum of the outputs of
        attention and MLP.
    """
    mask = gate.mask if gate is not None and skip else None
    project = functools.partial(_project, kind=kind, mask=mask, interpret=interpret)
    own, others = project(packed.own, x, norm=True), None
    if packed.others and neighbors is not None:
        others = project(packed.others, neighbors, norm=False)
    attn = _attend(packed.logits, kind, own, others, mask, dim=x.shape[2], interpret=interpret)
    return _finish(packed, attn, x, gate, skip=skip, interpret=interpret)


def _project(
    projection: Projection,
    tokens: Float[Array, "w tokens c"],
    *,
    kind: Int[Array, " w"],
    mask: Float[Array, "w queries 1"] | None,
    norm: bool,
    interpret: bool,
) -> Float[Array, "w tokens n"]:
    """Multiplies the tokens of windows, normalized before if `norm`, and adds an offset."""
    weight, offset = projection
    windows, count, dim = tokens.shape
    columns, wide = weight.shape[1], padded(dim)
    result = jax.ShapeDtypeStruct((windows, count, columns), tokens.dtype)

    def body(
        kind_ref: Any, tokens_ref: Any, weight_ref: Any, offset_ref: Any, mask_ref: Any, out: Any
    ) -> None:
        rows = pl.ds(pl.program_id(0) * TOKENS, TOKENS)

        def compute() -> None:
            x = load(tokens_ref, 0, TOKENS, dim)
            if norm:
                x = normalize(x.astype(jnp.float32), dim).astype(x.dtype)
            for start in range(0, columns, COLUMNS):
                part = pl.ds(start, COLUMNS)
                y = _dot(x, weight_ref[:, part]) + offset_ref[kind_ref[0], rows, part]
                out[:, part] = y.astype(out.dtype)

        _where_any(mask_ref, compute)

    return pl.pallas_call(
        body,
        grid=(count // TOKENS, windows),
        in_specs=(
            _of_window((1,)),
            pl.BlockSpec((None, TOKENS, wide), lambda j, i: (i, j, 0)),
            _whole(weight),
            _whole(offset),
            None if mask is None else _of_window((None, *mask.shape[1:])),
        ),
        out_specs=pl.BlockSpec((None, TOKENS, columns), lambda j, i: (i, j, 0)),
        out_shape=result,
        compiler_params=plgpu.CompilerParams(num_warps=PROJECT_WARPS, num_stages=1),
        cost_estimate=_cost(tokens.size * columns, tokens, weight, offset, result),
        interpret=interpret,
        name="window_project",
    )(kind, tokens, weight, offset, mask)


def _attend(
    logits: Float[Array, "kinds heads queries keys"],
    kind: Int[Array, " w"],
    own: Float[Array, "w queries n"],
    others: Float[Array, "w others m"] | None,
    mask: Float[Array, "w queries 1"] | None,
    *,
    dim: int,
    interpret: bool,
) -> Float[Array, "w queries n"]:
    """Attention of queries to the keys of their window; its last columns have no meaning."""
    windows, queries, _ = own.shape
    _, heads, _, _ = logits.shape
    each = dim // heads
    deep = padded(each)
    exp2 = jnp.exp2 if interpret else _exp2
    columns = -(-(dim + deep - each) // 8) * 8

    def body(
        kind_ref: Any, own_ref: Any, others_ref: Any, logits_ref: Any, mask_ref: Any, out: Any
    ) -> None:
        head, tile = pl.program_id(0) % heads, pl.program_id(0) // heads
        rows = pl.ds(tile * TOKENS, TOKENS)
        real = jax.lax.broadcasted_iota(jnp.int32, (1, deep), 1) < each

        def read(ref: Any, start: Any, column: int) -> jax.Array:
            """Some tokens of the head, at whose first column all heads start."""
            place = pl.ds(start, TOKENS), pl.ds(column + head * each, deep)
            return plgpu.load(ref.at[place], mask=real, other=0.0)

        def compute() -> None:
            q = read(own_ref, tile * TOKENS, 0)
            keys = [(own_ref, start, dim) for start in range(0, queries, TOKENS)]
            if others_ref is not None:
                before = range(0, others_ref.shape[0], TOKENS)
                keys = [*((others_ref, start, 0) for start in before), *keys]
            scores = []
            for j, (ref, start, column) in enumerate(keys):
                added = logits_ref[kind_ref[0], head, rows, pl.ds(j * TOKENS, TOKENS)]
                scores.append(_dot(q, read(ref, start, column).T) + added)
            highest = functools.reduce(jnp.maximum, (x.max(1) for x in scores))[:, None]
            weight = jnp.zeros((TOKENS,), jnp.float32)
            result = jnp.zeros((TOKENS, deep), jnp.float32)
            for x, (ref, start, column) in zip(scores, keys, strict=True):
                p = exp2(x - highest)
                result += _dot(p.astype(q.dtype), read(ref, start, column + dim))
                weight += p.sum(1)
            result = (result / weight[:, None]).astype(out.dtype)
            plgpu.store(out.at[rows, pl.ds(head * each, deep)], result, mask=real)

        _where_any(mask_ref, compute)

    keys = logits.shape[3]
    out = jax.ShapeDtypeStruct((windows, queries, columns), own.dtype)
    return pl.pallas_call(
        body,
        grid=(heads * (queries // TOKENS), windows),
        in_specs=(
            _of_window((1,)),
            _of_window((None, *own.shape[1:])),
            None if others is None else _of_window((None, *others.shape[1:])),
            _whole(logits),
            None if mask is None else _of_window((None, *mask.shape[1:])),
        ),
        out_specs=_of_window((None, *out.shape[1:])),
        out_shape=out,
        compiler_params=plgpu.CompilerParams(num_warps=ATTEND_WARPS, num_stages=1),
        cost_estimate=_cost(2 * windows * queries * keys * dim, own, others, logits, out),
        interpret=interpret,
        name="window_attend",
    )(kind, own, others, logits, mask)


def _finish(
    packed: Packed,
    attn: Float[Array, "w queries n"],
    x: Float[Array, "w queries c"],
    gate: Gate | None,
    *,
    skip: bool,
    interpret: bool,
) -> Any:
    """Projects the attention's output, adds it to the tokens, and applies the MLP."""
    windows, queries, dim = x.shape
    weights = packed.proj, packed.proj_offset, *packed[-4:]
    tanh = jnp.tanh if interpret else plgpu.approx_tanh

    def body(
        attn_ref: Any, x_ref: Any, weights: Any, memory: Any, y_ref: Any, *added_refs: Any
    ) -> None:
        proj, proj_offset, *layers = weights
        mask_ref, last_ref = memory or (None, None)

        def residual() -> jax.Array:
            return load(x_ref, 0, TOKENS, dim).astype(jnp.float32)

        def last() -> jax.Array:
            return load(last_ref, 0, TOKENS, dim).astype(jnp.float32)

        def compute() -> None:
            attn = _dot(load(attn_ref, 0, TOKENS, dim), proj[...]) + proj_offset[...][None]
            x = (residual() + attn).astype(x_ref.dtype)
            attn = attn.astype(x_ref.dtype)  # which takes fewer registers than float32
            hidden = _mlp(normalize(x.astype(jnp.float32), dim).astype(x.dtype), layers, tanh)
            if mask_ref is None:
                return store(y_ref, x + hidden, dim)
            added = jnp.where(mask_ref[...] > 0, attn + hidden, last())
            store(added_refs[0], added, dim)
            store(y_ref, residual() + added, dim)

        def keep() -> None:
            store(y_ref, residual() + last(), dim)

        _where_any(mask_ref if skip else None, compute, keep)

    tile = pl.BlockSpec((None, TOKENS, padded(dim)), lambda j, i: (i, j, 0))
    mask_tile = pl.BlockSpec((None, TOKENS, 1), lambda j, i: (i, j, 0))
    memory = None if gate is None else (gate.mask, gate.attn)
    results = [jax.ShapeDtypeStruct(x.shape, x.dtype)] * (2 if gate else 1)
    inputs = attn, x, weights, memory
    specs = tile, tile, jax.tree.map(_whole, weights), memory and (mask_tile, tile)
    products = dim * dim + 2 * packed.fc1.shape[1] * dim
    out = pl.pallas_call(
        body,
        grid=(queries // TOKENS, windows),
        in_specs=specs,
        out_specs=[tile] * len(results),
        out_shape=results,
        # The sum takes the place of the previous frame's.
        input_output_aliases={len(jax.tree.leaves(inputs)) - 1: 1} if gate else {},
        compiler_params=plgpu.CompilerParams(num_warps=FINISH_WARPS, num_stages=1),
        cost_estimate=_cost(windows * queries * products, *inputs, results),
        interpret=interpret,
        name="window_finish",
    )(*inputs)
    return tuple(out) if gate else out[0]


def _where_any(mask_ref: Any, compute: Callable, otherwise: Callable | None = None) -> None:
    """Computes a program if the mask holds a token, or if there is no mask."""
    if mask_ref is None:
        return compute()
    some = mask_ref[...].max() > 0
    pl.when(some)(compute)
    if otherwise:
        pl.when(jnp.logical_not(some))(otherwise)


def _of_window(block: tuple) -> pl.BlockSpec:
    """What belongs to the window of a program, the second index of its grid."""
    return pl.BlockSpec(block, lambda j, i: (i,) + (0,) * (len(block) - 1))


def _whole(table: jax.Array) -> pl.BlockSpec:
    return pl.BlockSpec(table.shape, lambda j, i: (0,) * table.ndim)


def _mlp(normed: jax.Array, layers: Sequence[Any], tanh: Callable) -> jax.Array:
    """MLP of normalized tokens; the layers are references."""
    fc1, fc1_offset, fc2, fc2_offset = layers

    def add(i: Any, total: jax.Array) -> jax.Array:
        part = pl.ds(i * HIDDEN, HIDDEN)
        hidden = gelu(_dot(normed, fc1[:, part]) + fc1_offset[part][None], tanh)
        return total + _dot(hidden.astype(normed.dtype), fc2[part, :])

    total = jnp.zeros(normed.shape, jnp.float32)
    return jax.lax.fori_loop(0, fc1.shape[1] // HIDDEN, add, total) + fc2_offset[...][None]


def _exp2(x: jax.Array) -> jax.Array:
    """2^x by one instruction, which takes results below 2^-126 as 0."""
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    (result,) = plgpu.elementwise_inline_asm(
        "ex2.approx.ftz.f32 $0, $1;",
        args=[x],
        constraints="=f,f",
        pack=1,
        result_shape_dtypes=[shape],
    )
    return result


def gelu(x: jax.Array, tanh: Callable) -> jax.Array:
    """Exact GELU but for 3e-5, by one tanh and a polynomial.

    Its argument is the odd polynomial whose GELU is nearest to the exact one; beyond 7, where the
    result is 0 or x, the polynomial's higher terms are held.
    """
    z = jnp.minimum(x * x, 49.0)
    half = 0.5 * x
    return half + half * tanh(x * (0.79750788 + z * (0.03700565 - 0.00035151686 * z)))


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
    return max(16, triton.padded(size))


def _cost(products: int, *arrays: Any) -> pl.CostEstimate:
    """Cost of multiplications and additions, and of each array once, or of what has its shape."""
    size = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(arrays))
    return pl.CostEstimate(flops=2 * products, transcendentals=0, bytes_accessed=size)
