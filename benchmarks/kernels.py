"""Error and time of the GPU kernels, each beside its plain form.

    python -m benchmarks.kernels --out=kernels           # on one GPU: kernels/kernels.md
    python -m benchmarks.kernels --out=kernels --only=RVRT
    python -m benchmarks.kernels --out=/tmp/k --dry      # tiny shapes, interpreted, on any device

Blocks of MIA-VSR, IIA-VSR and PSRT, attention of RVRT and RVRT-Light, and a deformable convolution
of BasicVSR++, for a frame of 180x320 (RVRT: two, PSRT: three) in bfloat16. Errors are relative L2
errors against the plain form in float32. Weights and inputs are random. Nothing is timed before
all programs are compiled.
"""

import concurrent.futures
import dataclasses
import functools
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import machine, make_parser
from jaxvsr.evaluation.markdown import markdown
from jaxvsr.files import write_text
from jaxvsr.kernels import block_gpu, deform_attention_gpu, deform_gpu
from jaxvsr.kernels.block_tables import Gate
from jaxvsr.layers import deform
from jaxvsr.layers.blocks import Dense, normalize
from jaxvsr.layers.window_refinement import block_tables, kinds_of, refine_plain
from jaxvsr.layers.window_transformer import BlockWeights, Norm, Windows
from jaxvsr.models.rvrt_light import NeighborhoodAttention

CALLS = 10  # that are timed
THREADS = 8  # that compile
WINDOW = (3, 8, 8)
DTYPE = jnp.bfloat16
TAPS = 9


@dataclasses.dataclass(frozen=True)
class Case:
    """A kernel and its plain form.

    Attributes:
        kernel, plain: functions whose results, or the first of them, should agree.
        inputs, plain_inputs: their arguments; the reference is `plain` of `plain_inputs` in
            float32.
        compared: which tokens are compared; None: all.
    """

    kernel: Callable[..., Any]
    plain: Callable[..., Any]
    inputs: tuple
    plain_inputs: tuple
    compared: np.ndarray | None = None


def cases(dry: bool) -> dict[str, Callable[[], Case]]:
    """Functions that draw the inputs of each case."""
    return {
        "MIA-VSR, all tokens": functools.partial(block, dry, 1, kept=1.0),
        "MIA-VSR, half of the windows": functools.partial(block, dry, 1, kept=0.5),
        "IIA-VSR": functools.partial(block, dry, 1),
        "PSRT": functools.partial(block, dry, 3),
        "RVRT, attention": functools.partial(attention, dry, 2 if dry else 12),
        "RVRT-Light, attention": functools.partial(attention, dry, 0),
        "BasicVSR++, deformable convolution": functools.partial(convolution, dry),
    }


@functools.cache
def block_inputs(dry: bool, frames: int) -> tuple[BlockWeights, Windows, Any, jax.Array]:
    """Weights, shifted windows, the kernels' tables, and the kind of each window."""
    rng = np.random.default_rng(0)
    size, dim, heads = ((9, 9), 16, 2) if dry else ((180, 320), 120, 6)
    keys, queries = (n * WINDOW[1] * WINDOW[2] for n in (WINDOW[0], frames))
    kinds = kinds_of(size, WINDOW, shifted=True)
    inside: Any = kinds.inside[kinds.kind]
    count = len(inside)

    def draw(*shape: int, scale: float = 0.1) -> Any:
        return np.float32(scale) * rng.standard_normal(shape, np.float32)

    def dense(rows: int, columns: int) -> Dense:
        return Dense(draw(rows, columns), draw(columns))

    def norm() -> Norm:
        return Norm(1 + draw(dim), draw(dim))

    weights = BlockWeights(
        *(norm(), dense(dim, 3 * dim), draw(heads, queries, keys, scale=1.0), dense(dim, dim)),
        *(norm(), dense(dim, 2 * dim), dense(2 * dim, dim)),
    )
    others = draw(count, keys - queries, dim, scale=1.0).astype(DTYPE)
    windows = Windows(
        x=(draw(count, queries, dim, scale=1.0) * inside[:, -queries:, None]).astype(DTYPE),
        normed=jnp.zeros((count, queries, dim), DTYPE),
        neighbors=others if keys > queries else None,
        inside=inside,
        regions=kinds.regions[kinds.kind],
        drop_attn=jnp.ones((count, 1, 1), DTYPE),
        drop_mlp=jnp.ones((count, 1, 1), DTYPE),
    )
    packed = jax.jit(lambda weights: block_gpu.pack(block_tables(weights, kinds), DTYPE))(weights)
    return *jax.device_put((weights, windows)), packed, jnp.asarray(kinds.kind)


def block(dry: bool, frames: int, kept: float | None = None) -> Case:
    """A window block that refines frames, in the given fraction of the windows; None: no gate."""
    weights, windows, packed, kind = block_inputs(dry, frames)
    inside, rng = np.asarray(windows.inside)[:, -windows.x.shape[1] :], np.random.default_rng(1)
    gate, skip = None, kept is not None and kept < 1
    if kept is not None:
        mask = np.ones((*inside.shape, 1), np.float32)
        if skip:  # some tokens of evenly spread windows
            mask = inside[..., None] * np.float32(rng.random(mask.shape) < 0.5)
            mask[np.arange(len(mask)) * kept % 1 > 0] = 0
        last = jnp.asarray(rng.standard_normal(windows.x.shape, np.float32), DTYPE)
        gate = Gate(jnp.asarray(mask), last, jnp.zeros_like(last))

    def plain(weights: BlockWeights, windows: Windows, gate: Gate | None) -> Any:
        windows = windows._replace(normed=normalize(windows.x, windows.x.dtype))
        return refine_plain(weights, windows, gate, clips=1, train=False, skip=skip)

    kernel = functools.partial(block_gpu.refine, skip=skip, interpret=dry)
    inputs = packed, kind, windows.x, windows.neighbors, gate
    return Case(kernel, plain, inputs, (weights, windows, gate), inside)


def attention(dry: bool, groups: int) -> Case:
    """Attention of RVRT's recurrence, at offsets; without groups RVRT-Light's."""
    rng = np.random.default_rng(1)
    height, width, dim, heads = (4, 6, 16, 2) if dry else (180, 320, 288, 12)
    q, k, v = (rng.standard_normal((1, 2, height, width, dim), np.float32) for _ in range(3))
    inputs = [a.astype(DTYPE) for a in (q.reshape(*q.shape[:-1], heads, -1), k, v)]
    window = (3, 3)
    if groups:
        offset = rng.standard_normal((*q.shape[:4], 2, groups, TAPS, 2), np.float32)
        inputs.append(4 * offset)
        plain: Any = functools.partial(deform._attend_at_offsets, window=window, train=False)
    else:
        module = NeighborhoodAttention(dim, heads, window, DTYPE)
        plain = functools.partial(module.apply, {}, method="attend")
    kernel = functools.partial(deform_attention_gpu.attend, window=window, interpret=dry)
    placed = jax.device_put(tuple(inputs))
    return Case(kernel, plain, placed, placed)


def convolution(dry: bool) -> Case:
    """Second-order alignment of BasicVSR++: two frames of features, each with a flow."""
    rng = np.random.default_rng(2)
    height, width, features, groups = (4, 6, 16, 2) if dry else (180, 320, 64, 16)
    shapes = (2 * features,), (3 * TAPS * groups,), (4,)
    x, head, flows = (rng.standard_normal((1, height, width, *s), np.float32) for s in shapes)
    weight = np.float32(0.05) * rng.standard_normal((3, 3, 2 * features, features), np.float32)
    kernel = functools.partial(deform_gpu.convolve, max_residue=10.0, interpret=dry)
    plain = functools.partial(deform._at_predicted_offsets, max_residue=10.0)
    placed = jax.device_put((x.astype(DTYPE), head, flows, weight))
    return Case(kernel, plain, placed, placed)


def single(tree: Any) -> Any:
    """Casts arrays of DTYPE to float32."""
    return jax.tree.map(lambda a: a.astype(jnp.float32) if a.dtype == DTYPE else a, tree)


def first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def profile(call: Callable[[], Any]) -> dict[str, tuple[float, float]]:
    """Launches per call, and microseconds (median over calls), of every kernel by name."""
    jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(CALLS):
                jax.block_until_ready(call())
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(path)).planes
        lines = [line for plane in planes if "GPU" in plane.name for line in plane.lines]
        events = [e for line in lines if "Stream" in line.name for e in line.events]
        events.sort(key=lambda event: event.start_ns)
        found: dict[str, list[float]] = {}
        for event in events:
            found.setdefault(event.name, []).append(event.duration_ns / 1e3)
    # Each call launches a kernel equally often.
    sums = {name: [sum(part) for part in np.array_split(t, CALLS)] for name, t in found.items()}
    return {name: (len(found[name]) / CALLS, float(np.median(t))) for name, t in sums.items()}


def measure(chosen: Mapping[str, Case], dry: bool) -> str:
    """Compiles and measures cases; returns tables in Markdown."""
    options: dict[str, Any] = {"xla_backend_optimization_level": 0} if dry else {}
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)

    def compiled(function: Callable[..., Any], inputs: tuple) -> concurrent.futures.Future:
        lowered = jax.jit(lambda *inputs: first(function(*inputs))).lower(*inputs)
        return pool.submit(lowered.compile, compiler_options=options)

    programs = {}
    for name, case in chosen.items():
        with jax.default_matmul_precision("highest"):
            exact = compiled(case.plain, single(case.plain_inputs))
        both = compiled(case.kernel, case.inputs), compiled(case.plain, case.plain_inputs)
        programs[name] = exact, *both
    concurrent.futures.wait([future for made in programs.values() for future in made])
    rows, times = [], []
    for name, case in chosen.items():
        exact, kernel, plain = (future.result() for future in programs[name])
        tokens = ... if case.compared is None else case.compared
        expected = np.asarray(exact(*single(case.plain_inputs)), np.float64)[tokens]
        calls = (
            functools.partial(kernel, *case.inputs),
            functools.partial(plain, *case.plain_inputs),
        )
        row = [name]
        for call in calls:
            difference = np.asarray(call(), np.float64)[tokens] - expected
            row.append(f"{np.linalg.norm(difference) / np.linalg.norm(expected):.1e}")
        if not dry:
            found = [profile(call) for call in calls]
            row += [f"{sum(spent for _, spent in each.values()) / 1e3:.3f}" for each in found]
            for title, (count, spent) in sorted(found[0].items(), key=lambda item: -item[1][1]):
                times.append([name, title, f"{count:g}", f"{spent:,.1f}"])
        rows.append(row)
    heads = ["case", "error of the kernels", "of the plain form"]
    tables = [markdown(heads if dry else [*heads, "kernels (ms)", "plain form (ms)"], rows)]
    if times:
        tables.append(markdown(["case", "kernel", "launches per call", "µs per call"], times))
    return "\n\n".join(tables)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes and prints kernels.md."""
    parser = make_parser("kernels", __doc__)
    add = parser.add_argument
    add("--out", type=pathlib.Path, required=True, help="folder of kernels.md")
    add("--only", default="", help="cases whose names start so")
    add("--dry", action="store_true", help="tiny shapes, interpreted, not timed")
    options = parser.parse_args(argv)
    made = cases(options.dry)
    names = [name for name in made if name.startswith(options.only)]
    if not names:
        parser.error(f"--only={options.only!r} must be the start of a name of: {'; '.join(made)}")
    if not options.dry and jax.default_backend() != "gpu":
        parser.error("no GPU found; without a GPU, use --dry")
    tables = measure({name: made[name]() for name in names}, options.dry)
    timed = "" if options.dry else f" Times are medians of {CALLS} calls."
    page = f"""# GPU kernels and their plain forms

`python -m benchmarks.kernels`, {machine()}, {time.strftime("%Y-%m-%d")}.
Relative L2 errors in bfloat16 against the plain form in float32.{timed}
Inputs are not donated: a kernel that overwrites an input works on a copy (memcpy).

{tables}
"""
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "kernels.md", page)
    print(page)


if __name__ == "__main__":
    main()
