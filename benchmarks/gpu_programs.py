"""What `benchmarks.gpu` measures: each function traces and lowers a program, and says how."""

import dataclasses
import functools
import importlib
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.parity import CASES, GOLDEN, fields_of, input_clips
from jaxvsr import flops, models, weights
from tests.golden import golden

KEPT = (0.1, 0.3, 0.5, 1.0)

# Networks in order of importance, and their golden cases, whose sizes the dry run takes too.
NETWORKS = {
    CASES[case][1]: case
    for case in (
        *("miavsr_tiny", "basicvsrpp_tiny", "psrt_tiny", "rvrt_tiny", "vrt_tiny", "iiavsr_tiny"),
        *("basicvsr_tiny", "iconvsr_tiny", "rvrt_light_tiny", "mobile_swrn_tiny"),
        *("mobile_rrn_tiny", "mobile_fani_tiny"),
    )
}


@dataclasses.dataclass(frozen=True)
class Program:
    """Something to measure.

    Attributes:
        measure: of the compiled program, gives what is written.
        lowered: to be compiled; None: `measure` does without.
        timed: whether other work on the device disturbs it.
    """

    measure: Callable[[Any], dict[str, Any]]
    lowered: Any = None
    timed: bool = True


def timed(call: Callable[[int], Any], seconds: float = 3.0, least: int = 3) -> dict[str, Any]:
    """Times a call, which is given its index, after one that does not count.

    Args:
        call: gives what to wait for.
        seconds: for which it is repeated.
        least: how often it is, however long that takes.
    """
    jax.block_until_ready(call(0))
    begin, times = time.perf_counter(), list[float]()
    while len(times) < least or (time.perf_counter() - begin < seconds and len(times) < 30):
        start = time.perf_counter()
        jax.block_until_ready(call(len(times) + 1))
        times.append(time.perf_counter() - start)
    return {
        "ms": 1e3 * float(np.median(times)),
        "fastest_ms": 1e3 * min(times),
        "calls": len(times),
    }


def memory(compiled: Any) -> dict[str, float]:
    """GiB that a program takes, and that the process has taken at most.

    Raises:
        MemoryError: more than the device has.
    """
    need = compiled.memory_analysis()
    held = need.argument_size_in_bytes + need.temp_size_in_bytes
    held += need.output_size_in_bytes - need.alias_size_in_bytes
    stats = jax.devices()[0].memory_stats() or {}
    if held > stats.get("bytes_limit", held):
        raise MemoryError(f"needs {held / 2**30:.1f} of {stats['bytes_limit'] / 2**30:.1f} GiB")
    return {"gib": held / 2**30, "process_peak_gib": stats.get("peak_bytes_in_use", 0) / 2**30}


def rate(count: float, found: Mapping[str, Any]) -> dict[str, float]:
    """TFLOP/s of a number of FLOPs, and the percentage of the data sheet's bf16 peak if known."""
    speed = count / found["ms"] * 1e3
    sheet = flops.data_sheet(jax.devices()[0].device_kind)
    return {"tflops": speed / 1e12} | ({"percent_of_peak": 100 * speed / sheet} if sheet else {})


def shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def lower(function: Callable, *args: Any, **how: Any) -> tuple[Any, float]:
    """A function that is lowered for such arguments, and its FLOPs."""
    traced = jax.jit(function, **how).trace(*shapes(args))
    return traced.lower(), sum(flops.by_scope(traced.jaxpr).values())


def filled(tree: Any) -> Any:
    """Random weights of such shapes, drawn on the host: compiling `model.init` takes minutes."""
    rng = np.random.default_rng(0)

    def fill(path: tuple, leaf: Any) -> np.ndarray:
        noise = 0.03 * rng.standard_normal(leaf.shape, np.float32)
        return noise + np.float32(getattr(path[-1], "key", "") in ("scale", "var"))

    return jax.tree_util.tree_map_with_path(fill, tree)


@functools.cache
def random_variables(model: Any) -> Any:
    """Random weights of a network; those that differ in speed alone share them."""
    plain = {"dtype": "float32", "gating": "dense", "remat": False, "unroll": 1}
    plain = {field: value for field, value in plain.items() if hasattr(model, field)}
    if any(getattr(model, field) != value for field, value in plain.items()):
        return random_variables(model.clone(**plain))
    return filled(jax.eval_shape(model.init, jax.random.key(0), models.example(model)))


def random_clips(shape: Sequence[int], count: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.random(shape, np.float32) for _ in range(count)]


def bandwidth(size: int) -> Program:
    """Of a kernel that reads and writes `size` bytes."""
    lowered, _ = lower(lambda x: x + 1, np.empty(size // 4, np.float32))

    def measure(compiled: Any) -> dict[str, Any]:
        x = jnp.zeros(size // 4, jnp.float32)
        found = timed(lambda _: compiled(x))
        return found | {"gb_per_s": 2 * size / found["ms"] / 1e6}

    return Program(measure, lowered)


def product(side: int) -> Program:
    """Of two square matrices in bf16, of random numbers."""
    x = np.random.default_rng(0).standard_normal((side, side), np.float32).astype(jnp.bfloat16)
    lowered, count = lower(jnp.matmul, x, x)

    def measure(compiled: Any) -> dict[str, Any]:
        on_device = jax.device_put(x)
        found = timed(lambda _: compiled(on_device, on_device))
        return found | rate(count, found)

    return Program(measure, lowered)


def small_fields(name: str) -> dict[str, Any]:
    """The fields of a network in its golden case."""
    case = NETWORKS[name]
    return fields_of(case, json.loads((GOLDEN / case / "manifest.json").read_text())["config"])


def parity(name: str, fields: Mapping[str, Any], dtype: str) -> Program:
    """Error against the numbers of a golden case, read off the official code in float32."""
    manifest, tensors, arrays = golden.load(GOLDEN / NETWORKS[name])
    fields = {**small_fields(name), **fields}
    read = weights.from_torch if name in weights.TORCH else weights.from_tf
    variables, lq = read(name, tensors, **fields), input_clips(arrays)
    model = models.create(name, **fields, dtype=dtype)
    with jax.default_matmul_precision("highest" if dtype == "float32" else "default"):
        lowered, _ = lower(model.apply, variables, lq)

    def measure(compiled: Any) -> dict[str, Any]:
        stored, peak = manifest["cases"]["sr"], 255 if "range" in manifest else 1
        sr = np.asarray(compiled(variables, lq), np.float64).reshape(stored["shape"])
        sr = np.clip(255 * sr, 0, 255) if peak == 255 else sr
        top, bottom, left, right = stored["window"]
        difference = sr[..., top:bottom, left:right, :] - arrays["sr/crop"]
        sums, expected = np.abs(sr).sum((-3, -2, -1)), arrays["sr/abs"]
        return {
            "relative_l2": float(np.linalg.norm(difference) / np.linalg.norm(arrays["sr/crop"])),
            "relative_sums": float(np.linalg.norm(sums - expected) / np.linalg.norm(expected)),
            "psnr": float(-10 * np.log10(max((difference**2).mean() / peak**2, 1e-30))),
        }

    return Program(measure, lowered, timed=False)


def forms(name: str, dtype: str, dry: bool) -> Program:
    """Difference between a network whose blocks are kernels and the same without kernels."""
    groups = {"dim": 16, "num_heads": (1,)} if dry else {"dim": 120, "num_heads": (6,)}
    auto, plain = (
        models.create(name, depths=(2,), **groups, dtype=dtype, attention=attention)
        for attention in ("auto", "plain")
    )
    variables, (lq,) = random_variables(plain), random_clips((1, 3, 68, 76, 3), 1)

    def both(variables: Any, lq: jax.Array) -> Any:
        return auto.apply(variables, lq), plain.apply(variables, lq)

    with jax.default_matmul_precision("highest" if dtype == "float32" else "default"):
        lowered, _ = lower(both, variables, lq)

    def measure(compiled: Any) -> dict[str, Any]:
        found, expected = (np.asarray(x, np.float64) for x in compiled(variables, lq))
        difference = found - expected
        return {
            "relative_l2": float(np.linalg.norm(difference) / np.linalg.norm(expected)),
            "psnr": float(-10 * np.log10(max((difference**2).mean(), 1e-30))),
        }

    return Program(measure, lowered, timed=False)


def inference(name: str, fields: Mapping[str, Any], size: tuple[int, int], frames: int) -> Program:
    """A network on a clip, the whole at once."""
    model = models.create(name, **fields)
    variables, clips = random_variables(model), random_clips((1, frames, *size, 3))
    lowered, count = lower(model.apply, variables, clips[0])

    def measure(compiled: Any) -> dict[str, Any]:
        held = memory(compiled)
        on_device, inputs = jax.device_put((variables, clips))
        found = timed(lambda i: compiled(on_device, inputs[i % 2]))
        found |= {"ms_a_frame": found["ms"] / frames, "tflop_a_frame": count / frames / 1e12}
        return found | rate(count, found) | held

    return Program(measure, lowered)


def masks(name: str, fields: Mapping[str, Any], size: tuple[int, int], frames: int) -> Program:
    """A network whose blocks all keep the tokens of a mask of blobs."""
    from jaxvsr.profiling import mask_sweep

    model = models.create(name, **fields)
    variables, clips = random_variables(model), random_clips((1, frames, *size, 3))

    def run(variables: Any, lq: jax.Array, mask: jax.Array) -> Any:
        with mask_sweep.forced_masks(mask):
            return model.apply(variables, lq)

    lowered, _ = lower(run, variables, clips[0], np.zeros(size, np.float32))

    def measure(compiled: Any) -> dict[str, Any]:
        held = memory(compiled)
        on_device, inputs = jax.device_put((variables, clips))
        kept = {}
        for share in KEPT:
            mask = jax.device_put(mask_sweep.blobs(share, *size))
            call = functools.partial(
                lambda i, mask: compiled(on_device, inputs[i % 2], mask), mask=mask
            )
            kept[f"{share:.0%}"] = timed(call)["ms"] / frames
        return {"ms_a_frame": kept} | held

    return Program(measure, lowered)


def training(name: str, fields: Mapping[str, Any], clips: int, dry: bool) -> Program:
    """A step of the official recipe with a device's part of the batch."""
    from jaxvsr.training.optimizer import make_optimizer
    from jaxvsr.training.state import initial_state
    from jaxvsr.training.step import batch_shapes, make_loss, make_step, step_flops

    config = importlib.import_module(f"configs.{name}").get_config()
    config.model.update(fields)
    config.data.batch = clips
    config.train.accumulate = 1
    if dry:
        config.data.update(frames=2, crop=4 * 64)
    model = models.create(**config.model)
    optimizer, _ = make_optimizer(config.optim, config.train.steps)
    ema = config.optim.ema
    like = jax.eval_shape(lambda: initial_state(model, optimizer, 0, bool(ema)))
    batch = batch_shapes(config.data, model.scale)
    count = step_flops(config, model, like)
    step = make_step(make_loss(model, config.loss), optimizer, 1, ema)
    lowered, _ = lower(step, like, batch, donate_argnums=0)

    def measure(compiled: Any) -> dict[str, Any]:
        held = memory(compiled)
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), (like.step, like.opt_state))
        start = like.replace(step=zeros[0], weights=filled(like.weights), opt_state=zeros[1], rng=0)
        state = jax.device_put(start).replace(rng=jax.random.key(0))
        rng = np.random.default_rng(1)
        inputs = [
            jax.device_put({k: rng.integers(0, 256, v.shape, np.uint8) for k, v in batch.items()})
            for _ in range(2)
        ]

        def call(i: int) -> Any:
            nonlocal state
            state, metrics = compiled(state, inputs[i % 2])
            return metrics

        found = timed(call)
        found |= {"finite": bool(np.all(call(0)["finite"]))}
        found |= {"steps_per_s": 1e3 / found["ms"], "tflop_a_step": count / 1e12}
        return found | rate(count, found) | held

    return Program(measure, lowered)


def in_memory(size: tuple[int, int], frames: int) -> Program:
    """Frames a second of the upscaling engine with the built-in network."""
    from jaxvsr import presets
    from jaxvsr.upscaling.stream import Settings, Stream
    from jaxvsr.video.reading import Frame

    model, variables, _ = presets.load(presets.DEFAULT)

    def measure(_: None) -> dict[str, Any]:
        some = np.random.default_rng(0).integers(0, 256, (8, *size, 3), np.uint8)
        clip = (Frame(some[i % 8], i) for i in range(frames))
        begin = time.perf_counter()
        outputs = Stream(model, variables, clip, Settings()).outputs()
        times = [time.perf_counter() - begin for _ in outputs]
        late = times[frames // 3 :]  # the first frames wait for the compiler
        return {"frames_per_s": (len(late) - 1) / (late[-1] - late[0]), "first_s": times[0]}

    return Program(measure)


def from_file(size: tuple[int, int], frames: int) -> Program:
    """Frames a second from a video to a video, with the built-in network."""
    from benchmarks.upscale import write
    from jaxvsr import presets
    from jaxvsr.upscaling.pipeline import upscale_file
    from jaxvsr.upscaling.request import Request

    model, variables, _ = presets.load(presets.DEFAULT)

    def measure(_: None) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "in.mp4"

            def seconds(length: int) -> float:
                write(source, length, *size)
                output, request = source.with_name("out.mp4"), Request(overwrite=True)
                start = time.perf_counter()
                upscale_file(source, output, model, variables, request, {})
                return time.perf_counter() - start

            # The difference of two lengths: compiling is in both, what is done once before.
            _warm, short, whole = map(seconds, (frames // 8, frames // 8, frames))
        return {"frames_per_s": (frames - frames // 8) / (whole - short), "whole_s": whole}

    return Program(measure)
