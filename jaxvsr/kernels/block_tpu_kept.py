"""The masked window block for TPUs, computed for windows with kept tokens only.

Windows are sorted: those with kept tokens come first. A program takes a few of them, wherever they
are in main memory, and copies the next program's windows while it computes. Of windows without a
kept token it reads and adds only what the previous frame left.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int32

from jaxvsr.kernels import block_tpu
from jaxvsr.kernels.block_tables import Gate


@functools.partial(jax.jit, static_argnames="interpret")
def refine_kept(
    packed: block_tpu.Packed,
    kind: Int32[Array, " w"],
    x: Float[Array, "w queries c"],
    neighbors: Float[Array, "w others c"],
    gate: Gate,
    *,
    interpret: bool = False,
) -> tuple[Float[Array, "w queries c"], Float[Array, "w queries c"]]:
    """Computes `block_tpu.refine` with a gate; neighbors of skipped windows are not read."""
    windows, queries, _ = x.shape
    batch = min(block_tpu.WINDOWS[queries], windows)
    kept = (gate.mask > 0).any((1, 2))
    order = jnp.argsort(~kept, stable=True).astype(jnp.int32)
    # The last window fills up the last program: it is computed twice, with the same result.
    order = jnp.pad(order, (0, -windows % batch), mode="edge")
    busy = -(-kept.sum(dtype=jnp.int32)[None] // batch)
    inputs = x, gate.attn, neighbors, gate.mask.reshape(windows, 1, queries)
    outputs = [jax.ShapeDtypeStruct(x.shape, x.dtype)] * 2

    def whole(array: Any) -> pl.BlockSpec:
        return pl.BlockSpec(array.shape, lambda i, *_: (0,) * array.ndim)

    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    arrays: Any = (*inputs, *outputs)
    buffers = [pltpu.VMEM((2, batch, *a.shape[1:]), a.dtype) for a in arrays]
    return tuple(
        pl.pallas_call(
            functools.partial(_kernel, batch=batch, heads=block_tpu.heads_of(packed, queries)),
            grid_spec=pltpu.PrefetchScalarGridSpec(
                num_scalar_prefetch=3,
                grid=(pl.cdiv(windows, batch),),
                in_specs=[anywhere] * len(inputs) + [*map(whole, packed)],
                out_specs=[anywhere] * 2,
                scratch_shapes=[*buffers, *[pltpu.SemaphoreType.DMA((2,))] * 2],
            ),
            out_shape=outputs,
            input_output_aliases={3 + 1: 1},
            compiler_params=pltpu.CompilerParams(
                dimension_semantics=("arbitrary",), vmem_limit_bytes=block_tpu.VMEM
            ),
            interpret=interpret,
            name="kept_window_block",
        )(kind, order, busy, *inputs, *packed)
    )


def _kernel(kind: Any, order: Any, busy: Any, *refs: Any, batch: int, heads: int) -> None:
    """Computes windows `order[i * batch:]`; the first `busy` programs hold kept tokens."""
    inputs, tables, refs = refs[:4], refs[4:17], refs[17:]
    outputs, sources, results, (arrived, sent) = refs[:2], refs[2:6], refs[6:8], refs[8:]
    step, steps = pl.program_id(0), pl.num_programs(0)
    slot = step % 2

    def move(program: Any, main: Any, buffers: Any, signal: Any, *, out: bool, wait: bool) -> None:
        for array, buffer in zip(main, buffers, strict=True):
            rows, here = buffer.at[program % 2], signal.at[program % 2]
            if wait:  # for the bytes of all windows
                pltpu.make_async_copy(array.at[pl.ds(0, batch)], rows, here).wait()
                continue
            for i in range(batch):
                ends = array.at[order[program * batch + i]], rows.at[i]
                pltpu.make_async_copy(*(ends[::-1] if out else ends), here).start()

    def fetch(program: Any, *, wait: bool) -> None:
        move(program, inputs[:2], sources[:2], arrived, out=False, wait=wait)
        pl.when(program < busy[0])(
            lambda: move(program, inputs[2:], sources[2:], arrived, out=False, wait=wait)
        )

    def store(program: Any, *, wait: bool) -> None:
        move(program, outputs[:1], results[:1], sent, out=True, wait=wait)
        pl.when(program < busy[0])(
            lambda: move(program, outputs[1:], results[1:], sent, out=True, wait=wait)
        )

    pl.when(step == 0)(lambda: fetch(0, wait=False))
    pl.when(step + 1 < steps)(lambda: fetch(step + 1, wait=False))
    fetch(step, wait=True)
    pl.when(step >= 2)(lambda: store(step - 2, wait=True))
    x, last, neighbors, mask = (source.at[slot] for source in sources)

    @pl.when(step < busy[0])
    def compute() -> None:
        kinds = [kind[order[step * batch + i]] for i in range(batch)]
        new = block_tpu.outputs_of(x[...], neighbors[...], tables, kinds, heads)
        rows = jnp.concatenate([mask[i] for i in range(batch)], axis=0)
        added = block_tpu.select(rows, new, last[...])
        results[1][slot] = added.astype(x.dtype)
        results[0][slot] = (x[...] + added).astype(x.dtype)

    @pl.when(step >= busy[0])
    def add() -> None:
        results[0][slot] = x[...] + last[...]

    store(step, wait=False)

    @pl.when(step == steps - 1)
    def finish() -> None:
        pl.when(step >= 1)(lambda: store(step - 1, wait=True))
        store(step, wait=True)
