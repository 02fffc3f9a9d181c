"""Profiles as tables and JSON."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxvsr.evaluation.markdown import markdown
from jaxvsr.flops import data_sheet
from jaxvsr.profiling.measuring import STREAM_RATE, Profile, grouped
from jaxvsr.profiling.topologies import Fit

MIB = 2**20
LOG = "TensorFlow Lite's estimate, as in the mobile networks' work log"
ENOUGH = 5  # rows of a useful table of layers

# Columns of a comparison: heading, and cell of a profile; columns of empty cells are left out.
COLUMNS: tuple[tuple[str, Callable[[Profile], str]], ...] = (
    ("model", lambda p: p.subject.name),
    ("parameters", lambda p: f"{p.parameters:,}"),
    ("GFLOPs", lambda p: giga(p.flops)),
    ("log GFLOPs", lambda p: "" if p.log_flops is None else giga(p.log_flops)),
    ("with masks", lambda p: "" if p.masked_flops is None else giga(p.masked_flops)),
    ("ms", lambda p: "" if p.frame_seconds is None else f"{1e3 * p.frame_seconds:.1f}"),
    ("lookahead", lambda p: "clip" if p.lookahead is None else str(p.lookahead)),
    ("longest wait (ms)", lambda p: "" if p.longest_wait is None else ms(p.longest_wait)),
    ("MFU (%)", lambda p: "" if p.mfu is None else f"{100 * p.mfu:.0f}"),
    ("memory (MiB)", lambda p: "" if p.memory is None else f"{p.memory / MIB:,.0f}"),
)


def comparison(profiles: Sequence[Profile]) -> str:
    """Formats profiles as a table with a row per model."""
    first = profiles[0]
    columns = [(head, [cell(p) for p in profiles]) for head, cell in COLUMNS]
    if first.frame_seconds:
        ratios = [p.frame_seconds / first.frame_seconds for p in profiles if p.frame_seconds]
        place = [head for head, _ in columns].index("ms") + 1
        columns.insert(place, ("relative time", [f"{ratio:.2f}" for ratio in ratios]))
    columns = [(head, cells) for head, cells in columns if any(cells)]
    heads = [head for head, _ in columns]
    rows = [list(row) for row in zip(*(cells for _, cells in columns), strict=True)]
    lines = [f"{_clip(first)}; GFLOPs and ms per frame", markdown(heads, rows)]
    if first.seconds:
        lines.append(f"Times: medians of {len(first.seconds)} interleaved calls of each model.")
    return "\n".join(lines)


def report(profile: Profile, depth: int | None, rows: int) -> str:
    """Formats a profile.

    Args:
        profile: of a model.
        depth: levels of modules in the table of layers; None: enough for some rows.
        rows: number of layers in the table, the largest ones.
    """
    subject = profile.subject
    parts = [f"{subject.name}: {_clip(profile)}", markdown(["", "", ""], _totals(profile))]
    parts.append(_layers(profile, depth, rows))
    if profile.keep_ratios:
        parts.append(_masks(profile))
    return "\n\n".join(parts)


def fit(fit: Fit, title: str, frames: int) -> str:
    """Formats a program compiled for a topology.

    Args:
        fit: of `topologies.compile_for`.
        title: of the program.
        frames: per call, on all devices together.
    """
    head = f"{title} ({fit.devices} x {fit.kind}), compiled in {fit.seconds:.0f} s"
    if fit.refusal:
        verdict = f"It does not fit: {fit.refusal}"
        return f"{head}\n\nArithmetic: {giga(fit.flops)} GFLOP per device.\n{verdict}"
    parts = ("arguments", "outputs", "temporaries", "code")
    memory = [[part, f"{getattr(fit, part) / MIB:,.1f}"] for part in parts]
    memory.append(["total", f"{fit.used / MIB:,.1f}"])
    memory.append(["available", f"{fit.available / MIB:,.1f}"])
    traffic, compute, move = fit.traffic, fit.compute_seconds, fit.memory_seconds
    assert traffic is not None
    totals = traffic.launched, traffic.memory
    bounds = [
        ["arithmetic", f"{giga(fit.flops)} GFLOP", f"{fit.peak / 1e12:,.0f} TFLOP/s", ms(compute)],
        [
            "memory traffic (estimate)",
            f"{giga(traffic.memory)} GB",
            f"{fit.bandwidth / 1e9:,.0f} GB/s",
            ms(move),
        ],
    ]
    kernels = [
        [kind, f"{count:,}", giga(size), f"{100 * size / max(traffic.memory, 1):.1f}"]
        for kind, (count, size) in (*traffic.kernels.items(), ("total", totals))
    ]
    slower = max(compute, move)
    which = "arithmetic" if compute > move else "memory"
    moved = [
        [kind, f"{count:,}", f"{size / MIB:,.2f}"]
        for kind, (count, size) in traffic.collectives.items()
    ]
    return "\n\n".join(
        [
            head,
            markdown(["memory per device", "MiB"], memory),
            markdown(["per device", "amount", "peak", "lower bound (ms)"], bounds),
            markdown(["kernels per device", "number", "traffic (GB)", "%"], kernels),
            f"Bound by {which}: at least {ms(slower)} ms, {ms(slower / frames)} ms per frame.",
            markdown(["collectives", "count", "total MiB"], moved) if moved else "No collectives.",
            "It fits." if fit.fits else "It does not fit.",
        ]
    )


def plain(profile: Profile) -> dict[str, Any]:
    """Converts a profile to JSON values."""
    subject = profile.subject
    batch, frames, height, width, _ = subject.lq.shape
    return {
        "name": subject.name,
        "input": {"batch": batch, "frames": frames, "height": height, "width": width},
        "dtype": dtype(profile),
        "clip": subject.clip,
        "weights": subject.weights,
        "parameters": profile.parameters,
        "statistics": profile.statistics,
        "flops_per_frame": profile.flops,
        "log_flops_per_frame": profile.log_flops,
        "masked_flops_per_frame": profile.masked_flops,
        "seconds_per_frame": profile.frame_seconds,
        "seconds_of_calls": list(profile.seconds),
        "lookahead": profile.lookahead,
        "longest_wait_seconds": profile.longest_wait,
        "memory_bytes": profile.memory,
        "memory_source": profile.memory_source,
        "mfu": profile.mfu,
        "peak_flops": profile.peak,
        "keep_ratios": profile.keep_ratios,
        "layers": [dataclasses.asdict(layer) for layer in profile.layers],
    }


def plain_fit(fit: Fit) -> dict[str, Any]:
    """Converts a fit to JSON values; None for values that a refused program lacks."""
    traffic, compiled = fit.traffic, not fit.refusal
    kernels = traffic.kernels if traffic else {}
    collectives = traffic.collectives if traffic else {}
    return {
        "kind": fit.kind,
        "devices": fit.devices,
        "compile_seconds": fit.seconds,
        "arguments_bytes": fit.arguments if compiled else None,
        "outputs_bytes": fit.outputs if compiled else None,
        "temporaries_bytes": fit.temporaries if compiled else None,
        "code_bytes": fit.code if compiled else None,
        "total_bytes": fit.used if compiled else None,
        "available_bytes": fit.available,
        "traffic_bytes": traffic.memory if traffic else None,
        "flops": fit.flops,
        "kernels": traffic.launched if traffic else None,
        "bandwidth": fit.bandwidth,
        "peak_flops": fit.peak,
        "memory_bound_ms": 1e3 * fit.memory_seconds if traffic else None,
        "compute_bound_ms": 1e3 * fit.compute_seconds,
        "fits": fit.fits,
        "refusal": fit.refusal,
        "kernel_kinds": {k: {"number": n, "bytes": size} for k, (n, size) in kernels.items()},
        "collectives": {k: {"number": n, "bytes": size} for k, (n, size) in collectives.items()},
    }


def dtype(profile: Profile) -> str:
    """Returns the dtype of the computation."""
    return np.dtype(profile.subject.model.dtype).name


def giga(x: float) -> str:
    """Formats a number in units of 1e9: 1.61e12 -> "1,610"."""
    x /= 1e9
    return f"{x:,.0f}" if x >= 1000 else f"{x:.3f}" if x >= 0.1 else f"{x:.2g}"


def ms(seconds: float) -> str:
    """Formats a time in milliseconds."""
    return f"{1e3 * seconds:,.1f}" if seconds >= 0.01 else f"{1e3 * seconds:.2g}"


def _clip(profile: Profile) -> str:
    subject = profile.subject
    batch, frames, height, width, _ = subject.lq.shape
    clips = f"{batch} clips" if batch > 1 else "a clip"
    return (
        f"{clips} of {frames} frames of {height}x{width}, {dtype(profile)}, on "
        f"{jax.devices()[0].device_kind}"
    )


def _totals(profile: Profile) -> list[list[str]]:
    """Makes rows of name, number and remark."""
    rows = [["parameters", f"{profile.parameters:,}", ""]]
    if profile.statistics:
        rows.append(["running statistics", f"{profile.statistics:,}", ""])
    macs = f"{giga(profile.flops / 2)} G multiply-adds"
    rows.append(["GFLOPs per frame", giga(profile.flops), macs])
    if profile.log_flops is not None:
        rows.append(["... as in the work log", giga(profile.log_flops), LOG])
    if profile.masked_flops is not None:
        share = f"{profile.masked_flops / profile.flops:.0%} of dense"
        rows.append(["... with masks", giga(profile.masked_flops), share])
    if profile.frame_seconds is not None:
        best, worst = (1e3 * f(profile.seconds) / profile.subject.frames for f in (min, max))
        spread = f"median of {len(profile.seconds)} calls, {best:.1f} to {worst:.1f}"
        rows.append(["ms per frame", f"{1e3 * profile.frame_seconds:.1f}", spread])
    later = profile.lookahead
    needed = "the whole clip" if later is None else f"{later} later frame{'s' * (later != 1)}"
    rows.append(["lookahead", "clip" if later is None else str(later), f"a frame needs {needed}"])
    if profile.longest_wait is not None:
        arrival = f"of a frame in a stream of {STREAM_RATE} frames per second or slower"
        rows.append(["longest wait (ms)", ms(profile.longest_wait), arrival])
    if profile.mfu is not None and profile.peak is not None:
        source = f"of {profile.peak / 1e9:,.0f} GFLOP/s, {_peak_source()}"
        rows.append(["MFU (%)", f"{100 * profile.mfu:.1f}", source])
    if profile.memory is not None:
        rows.append(["memory (MiB)", f"{profile.memory / MIB:,.0f}", profile.memory_source])
    return rows


def _peak_source() -> str:
    sheet = data_sheet(jax.devices()[0].device_kind)
    return "from the data sheet" if sheet else "timed with a matrix product"


def _layers(profile: Profile, depth: int | None, rows: int) -> str:
    """Lists the largest layers by parameters or FLOPs, the sum of the others, and the total."""
    levels = range(1, 20) if depth is None else [depth]
    for level in levels:
        layers = grouped(profile.layers, level)
        if len(layers) >= ENOUGH:
            break
    parameters, flops = profile.parameters or 1, profile.flops or 1.0
    largest = sorted(
        layers, key=lambda each: max(each.parameters / parameters, each.flops / flops), reverse=True
    )[:rows]
    rest = [layer for layer in layers if layer not in largest]
    shown = [(layer.name or "(outside of modules)", [layer]) for layer in largest]
    shown += [(f"({len(rest)} others)", rest)] if rest else []
    cells = []
    for name, inside in [*shown, ("total", layers)]:
        size, work = (sum(getattr(x, field) for x in inside) for field in ("parameters", "flops"))
        shares = f"{100 * size / parameters:.1f}", f"{100 * work / flops:.1f}"
        cells.append([name, f"{size:,}", shares[0], giga(work), shares[1]])
    return markdown(["layer", "parameters", "%", "GFLOPs per frame", "%"], cells)


def _masks(profile: Profile) -> str:
    """Lists the tokens kept in percent, a row per group of blocks."""
    subject, kept = profile.subject, profile.keep_ratios
    rows = []
    names = sorted(kept, key=lambda name: name.rpartition("/")[0])
    for group, inside in itertools.groupby(names, key=lambda name: name.rpartition("/")[0]):
        shares = [100 * kept[name] for name in inside]
        rows.append([group, *(f"{share:.0f}" for share in shares), f"{np.mean(shares):.0f}"])
    width = max(map(len, rows))
    rows = [[*row[:-1], *[""] * (width - len(row)), row[-1]] for row in rows]
    heads = ["tokens kept (%)", *(f"block {i}" for i in range(width - 2)), "mean"]
    origin = f"Masks of {subject.clip}; weights: {subject.weights}."
    if subject.weights == "untrained":
        origin += " Masks of an untrained model have no meaning: see --workdir and --input."
    return f"{markdown(heads, rows)}\n{origin}"
