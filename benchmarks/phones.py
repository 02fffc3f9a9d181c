"""Size and time of the networks of the mobile work log as LiteRT files, on this processor.

    python -m benchmarks.phones                      # every network, 180x320 to 720x1280
    python -m benchmarks.phones SWRN FANI --size=90x160
    python -m benchmarks.phones --log=phones.jsonl   # run it again to resume

Weights are random, as neither size nor time depends on them. Times are processor times of one
frame with one thread, the smallest of several rounds, in milliseconds and relative to SWRN's in
fp32, which is timed in the same rounds as each network. GFLOPs are counted as in the log
(`jaxvsr.flops.log_convention`). The networks of JITTED are also timed as `model.step` under
`jax.jit`, on a single core. Networks that --log holds for this size, processor and versions are
not measured again. Needs `jaxvsr[export]`.
"""

import os

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import argparse
import importlib.metadata
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import machine, make_parser
from configs.mobile import NETWORKS
from configs.mobile_rows import ROWS
from jaxvsr import cli, flops, models
from jaxvsr.evaluation.markdown import markdown
from jaxvsr.exporting import litert, quantization
from jaxvsr.exporting.clips import moving_texture
from jaxvsr.exporting.phone_file import quantize_int8
from jaxvsr.exporting.phone_graph import PhoneGraph, phone_graph
from jaxvsr.exporting.playing import Player

JITTED = ("SWRN", "MobileRRN", "FANI")
UNIT = "SWRN"  # times are relative to its fp32 file's
ROUNDS = 7
Row = dict[str, float]


def network(row: str) -> tuple[Any, Any]:
    """A network with random weights of the scale of initial ones."""
    name, fields = (NETWORKS | ROWS)[row]
    model = models.create(name, **fields)
    shapes = jax.eval_shape(model.init, jax.random.key(0), models.example(model, 2, 16, 16))
    rng = np.random.default_rng(0)

    def weight(path: tuple, leaf: Any) -> np.ndarray:
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100
        return (0.7 * rng.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return model, jax.tree_util.tree_map_with_path(weight, shapes)


def measure(row: str, size: tuple[int, int], unit: Player) -> Row:
    """Parameters, GFLOPs, bytes and milliseconds of a network, and those of SWRN's fp32 file."""
    model, variables = network(row)
    clip = jax.ShapeDtypeStruct((1, 1, *size, 3), jnp.float32)
    graph = phone_graph(model, variables, size)
    texture = moving_texture(size, 1)
    fp32 = litert.convert(graph)
    files = {
        "fp32": fp32,
        "fp16": quantization.float16(fp32),
        "int8": quantize_int8(graph, [texture]),
    }
    players = {quant: Player(data) for quant, data in files.items()} | {UNIT: unit}
    times = [
        {name: player.seconds(texture, 1) for name, player in players.items()}
        for _ in range(ROUNDS)
    ]
    found = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables)),
        "GFLOPs": flops.log_convention(model.apply, variables, clip) / 1e9,
        **{f"bytes {quant}": len(data) for quant, data in files.items()},
        **{f"ms {name}": 1e3 * min(each[name] for each in times) for name in players},
    }
    if row == UNIT:
        found[f"ms {UNIT}"] = found["ms fp32"]
    if row in JITTED:
        found["ms jit"] = 1e3 * jit_seconds(graph)
    return found


def jit_seconds(graph: PhoneGraph) -> float:
    """Smallest processor time of `model.step` under `jax.jit`."""
    model = graph.model
    _, height, width, channels = graph.frames
    step = jax.jit(lambda state, frames: model.apply(graph.variables, state, frames, method="step"))
    state = model.initial_state((1, height, width, 3))
    frames = jnp.full((1, channels // 3, height, width, 3), 0.5)

    def run() -> None:
        jax.block_until_ready(step(state, frames))

    run()
    return min(_processor_time(run) for _ in range(ROUNDS))


def _processor_time(run: Callable[[], None]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def table(rows: dict[str, Row]) -> str:
    """Formats the measurements; times relative to SWRN's in fp32."""
    quants = ("fp32", "fp16", "int8")
    heads = ["network", "parameters", "GFLOPs", "bytes fp32", "fp16", "int8"]
    heads += ["ms fp32", "time fp32", "fp16", "int8"]
    cells = [
        [
            name,
            f"{row['parameters']:,.0f}",
            f"{row['GFLOPs']:.3f}",
            *(f"{row[f'bytes {quant}']:,.0f}" for quant in quants),
            f"{row['ms fp32']:.1f}",
            *(f"{row[f'ms {quant}'] / row[f'ms {UNIT}']:.2f}" for quant in quants),
        ]
        for name, row in rows.items()
    ]
    return markdown(heads, cells)


def jit_table(rows: dict[str, Row]) -> str:
    """Formats the times of the networks that were also timed under `jax.jit`."""
    heads = ["network", "ms jit", "fp32 / jit", "fp16 / fp32", "int8 / fp32"]
    cells = [
        [
            name,
            f"{row['ms jit']:.1f}",
            f"{row['ms fp32'] / row['ms jit']:.2f}",
            f"{row['ms fp16'] / row['ms fp32']:.2f}",
            f"{row['ms int8'] / row['ms fp32']:.2f}",
        ]
        for name, row in rows.items()
        if "ms jit" in row
    ]
    return markdown(heads, cells) if cells else ""


def read_log(path: pathlib.Path, setting: dict[str, str]) -> dict[str, Row]:
    """Rows of a log that were measured in a setting: size, processor and versions."""
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("}")]  # not one that was cut off
    return {line["network"]: line["row"] for line in found if line["setting"] == setting}


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints tables."""
    options = _parse(arguments)
    size = cli.parse_size(options.size)
    setting = {"size": options.size, "machine": f"{machine()}, {_litert()}"}
    rows = read_log(options.log, setting) if options.log else {}
    if missing := [name for name in options.rows if name not in rows]:
        unit = Player(litert.convert(phone_graph(*network(UNIT), size)))
    for name in missing:
        rows[name] = measure(name, size, unit)
        if options.log:
            with options.log.open("a") as file:
                line = {"network": name, "setting": setting, "row": rows[name]}
                file.write(json.dumps(line) + "\n")
        print(name, {key: round(value, 3) for key, value in rows[name].items()}, flush=True)
    rows = {name: rows[name] for name in options.rows}
    print(f"\n{table(rows)}\n")
    if jitted := jit_table(rows):
        print(f"{jitted}\n")
    print(f"`python -m benchmarks.phones`, {setting['size']}; {setting['machine']}")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = make_parser("phones", __doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="SWRN, FANI, SORT_2, ...; all")
    parser.add_argument("--size", default="180x320", help="HEIGHTxWIDTH of the input frames")
    parser.add_argument("--log", type=pathlib.Path, help="file of measured rows, to be continued")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.rows if name not in NETWORKS | ROWS]
    if unknown:
        parser.error(f"unknown network {unknown[0]!r}; expected one of configs/mobile.py's")
    options.rows = list(dict.fromkeys(options.rows or [*JITTED, *ROWS]))
    return options


def _litert() -> str:
    return f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"


if __name__ == "__main__":
    main()
