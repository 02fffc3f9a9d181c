"""The window block of PSRT, IIA-VSR and MIA-VSR as one kernel for TPUs.

A program computes a few windows: norm, queries, keys and values, attention, projection, norm and
MLP. Logits and hidden layers stay in the vector memory. Heads are not split: the queries of each
head are those of all channels, with zeros in the channels of other heads, so that one product of
full width gives the logits of all heads. Logits are transposed, keys x (heads * queries), so that
the softmax sums over sublanes. What differs between windows is read from tables by the window's
kind.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int32

from jaxvsr.kernels import switch
from jaxvsr.kernels.block_tables import BlockTables, Gate

# Number of queries of a window -> windows of a program: enough to hide latencies.
WINDOWS = {64: 8, 192: 4}
KEYS = 192  # of a window
VMEM = 64 << 20  # bytes of vector memory; the zoo's blocks need less than half

LOGITS = 6  # index of (kinds, keys, heads * queries) in the tables of `pack`
Packed = tuple[jax.Array, ...]

_ROWS = (((1,), (0,)), ((), ()))  # a @ b
_BY_ROW = (((1,), (1,)), ((), ()))  # a @ b.T
_BY_COLUMN = (((0,), (0,)), ((), ()))  # a.T @ b


def fits(bias: jax.Array, dim: int, dtype: Any) -> bool:
    """Whether the kernel computes blocks of this kind, on a TPU.

    Args:
        bias: (heads, queries, keys), of relative positions.
        dim: channels.
        dtype: of the computation.
    """
    heads, queries, keys = bias.shape
    return (
        switch.is_on()
        and queries in WINDOWS
        and keys == KEYS
        and dim <= 128
        and dim % heads == 0
        and dtype in (jnp.bfloat16, jnp.float32)
    )


@functools.partial(jax.jit, static_argnames="interpret")
def refine(
    packed: Packed,
    kind: Int32[Array, " w"],
    x: Float[Array, "w queries c"],
    neighbors: Float[Array, "w others c"] | None,
    gate: Gate | None,
    *,
    interpret: bool = False,
) -> Any:
    """Computes a block.

    Args:
        packed: tables of the block, of `pack`.
        kind: of each window.
        x: tokens that are refined.
        neighbors: normalized tokens of other frames; None: there are none.
        gate: which tokens are computed; None: all. Dropped tokens need only the sum of the outputs
            of attention and MLP: it is kept as `attn`, and `hidden` is not read.
        interpret: whether to emulate the kernel, on any device.

    Returns:
        The refined tokens; with a gate also the sum of the outputs of attention and MLP.
    """
    windows, queries, _ = x.shape
    batch = min(WINDOWS[queries], windows)
    inputs = [x]
    if neighbors is not None:
        inputs.append(neighbors)
    if gate is not None:
        # One row per window: a column of tokens would be padded to 128 lanes.
        inputs += [gate.attn, gate.mask.reshape(windows, queries)]
    outputs = [jax.ShapeDtypeStruct(x.shape, x.dtype)] * (1 if gate is None else 2)

    def part(array: Any) -> pl.BlockSpec:
        shape = (batch, *array.shape[1:])
        return pl.BlockSpec(shape, lambda i, *_: (i,) + (0,) * (len(shape) - 1))

    def whole(array: Any) -> pl.BlockSpec:
        return pl.BlockSpec(array.shape, lambda i, *_: (0,) * array.ndim)

    out = pl.pallas_call(
        functools.partial(
            _kernel,
            batch=batch,
            heads=heads_of(packed, queries),
            others=neighbors is not None,
            gated=gate is not None,
        ),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(pl.cdiv(windows, batch),),
            in_specs=[*map(part, inputs), *map(whole, packed)],
            out_specs=[part(shape) for shape in outputs],
        ),
        out_shape=outputs,
        input_output_aliases={} if gate is None else {len(inputs) - 1: 1},
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("arbitrary",), vmem_limit_bytes=VMEM
        ),
        interpret=interpret,
        name="window_block",
    )(jnp.pad(kind, (0, -windows % batch)), *inputs, *packed)
    return out[0] if gate is None else tuple(out)


def pack(tables: BlockTables, dtype: Any) -> Packed:
    """Arranges tables as the kernel reads them: matrices in the dtype of the computation."""
    kinds, heads, queries, keys = tables.logits.shape
    logits = tables.logits.transpose(0, 3, 1, 2).reshape(kinds, keys, heads * queries)
    return (
        tables.query.astype(dtype),
        tables.query_offset[None],
        tables.key.astype(dtype),
        tables.key_offset,
        tables.value.T.astype(dtype),
        tables.value_offset.swapaxes(1, 2),
        logits,
        tables.proj.astype(dtype),
        tables.proj_offset[None],
        tables.fc1.astype(dtype),
        tables.fc1_offset[None],
        tables.fc2.astype(dtype),
        tables.fc2_offset[None],
    )


def heads_of(packed: Packed, queries: int) -> int:
    """The number of attention heads of a block."""
    return packed[LOGITS].shape[2] // queries


def _kernel(kind: Any, *refs: Any, batch: int, heads: int, others: bool, gated: bool) -> None:
    """Computes consecutive windows; `refs` are of the arrays of `refine`, in their order."""
    count = 1 + others + 2 * gated
    inputs, tables, outputs = refs[:count], refs[count : count + 13], refs[count + 13 :]
    first = pl.program_id(0) * batch
    kinds = [kind[first + i] for i in range(batch)]
    x = inputs[0][...]
    added = outputs_of(x, inputs[1][...] if others else None, tables, kinds, heads)
    if gated:
        last, mask = inputs[-2:]
        added = select(mask[...], added, last[...])
        outputs[1][...] = added.astype(x.dtype)
    outputs[0][...] = (x + added).astype(x.dtype)


def select(mask: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """Takes new values (w, queries, c) where the mask (w, queries) is not 0, else old ones."""
    by_token = mask.T
    columns = [by_token[:, i : i + 1] for i in range(len(mask))]
    kept = jnp.concatenate(columns, axis=0).reshape(*mask.shape, 1)
    return jnp.where(kept > 0, new, old.astype(jnp.float32))


def outputs_of(x: Any, neighbors: Any, tables: Any, kinds: Any, heads: int) -> jax.Array:
    """Sum of the outputs of attention and MLP, within a kernel.

    Args:
        x: (w, queries, c).
        neighbors: (w, others, c) or None.
        tables: references to the tables of `pack`.
        kinds: of the windows, scalars.
        heads: their number.

    Returns:
        (w, queries, c) float32.
    """
    query, query_offset, key, key_offset, value, value_offset, logits, *rest = tables
    proj, proj_offset, fc1, fc1_offset, fc2, fc2_offset = rest
    batch, queries, dim = x.shape
    dtype = x.dtype
    x = x.reshape(batch * queries, dim).astype(jnp.float32)
    normed = _normalize(x).astype(dtype)
    q = _dot(normed, query[...]) + query_offset[...]
    q = q.reshape(batch, queries, dim)
    tokens = normed.reshape(batch, queries, dim)
    if neighbors is not None:
        tokens = jnp.concatenate([neighbors, tokens], axis=1)
    keys = tokens.shape[1]
    k = _dot(tokens.reshape(batch * keys, dim), key[...]).reshape(batch, keys, dim)

    head = jax.lax.broadcasted_iota(jnp.int32, (queries, dim), 1) // (dim // heads)
    # Each stage for all windows before the next one: the compiler then overlaps their latencies.
    each = range(batch)
    keys_of = [(k[i] + key_offset[kinds[i]]).astype(dtype) for i in each]
    by_head = [
        jnp.concatenate([jnp.where(head == h, q[i], 0.0).astype(dtype) for h in range(heads)], 0)
        for i in each
    ]
    logit = [_dot(keys_of[i], by_head[i], _BY_ROW) + logits[kinds[i]] for i in each]
    weight = [jnp.exp(logit[i] - logit[i].max(0, keepdims=True)) for i in each]
    values = [
        (_dot(value[...], tokens[i], _BY_ROW) + value_offset[kinds[i]]).astype(dtype) for i in each
    ]
    found = [
        _dot(values[i], weight[i].astype(dtype)) * (1.0 / weight[i].sum(0, keepdims=True))
        for i in each
    ]
    own = [_own_channels(found[i], heads, queries).astype(dtype) for i in each]
    attended = [_dot(own[i], proj[...], _BY_COLUMN) for i in each]
    y = x + jnp.concatenate(attended, axis=0) + proj_offset[...]
    hidden = _gelu(_dot(_normalize(y).astype(dtype), fc1[...]) + fc1_offset[...])
    y = y + _dot(hidden.astype(dtype), fc2[...]) + fc2_offset[...]
    return (y - x).reshape(batch, queries, dim)


def _own_channels(found: jax.Array, heads: int, queries: int) -> jax.Array:
    """Takes from (c, heads * queries) each head's channels at its queries: (c, queries)."""
    dim = found.shape[0]
    group = 2 if heads % 2 == 0 else 1  # heads side by side, so that slices start at whole tiles
    width = group * queries
    row = jax.lax.broadcasted_iota(jnp.int32, (dim, width), 0) // (dim // heads)
    column = jax.lax.broadcasted_iota(jnp.int32, (dim, width), 1) // queries
    own = jnp.zeros((dim, width), found.dtype)
    for i in range(heads // group):
        own = jnp.where(row == group * i + column, found[:, width * i : width * (i + 1)], own)
    return own if group == 1 else own[:, :queries] + own[:, queries:]


def _normalize(x: jax.Array) -> jax.Array:
    """Layer norm over the last axis without its affine part, in float32."""
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5)


def _gelu(x: jax.Array) -> jax.Array:
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


def _dot(a: jax.Array, b: jax.Array, dimensions: Any = _ROWS) -> jax.Array:
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)
