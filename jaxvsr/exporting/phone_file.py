"""Writes a network as a file for phones, with its description, and prints a comparison."""

import dataclasses
import hashlib
import importlib.metadata
import math
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict

from jaxvsr.console import say
from jaxvsr.errors import InputError
from jaxvsr.evaluation.markdown import markdown
from jaxvsr.exporting import flatbuffer, litert, quantization
from jaxvsr.exporting.clips import Clip, moving_texture, read_clips
from jaxvsr.exporting.distillation import distil
from jaxvsr.exporting.output import make_folder, write_described
from jaxvsr.exporting.phone_graph import PhoneGraph, phone_graph
from jaxvsr.exporting.playing import Player, psnr, windows
from jaxvsr.training.channels import check_prunable, prune_channels
from jaxvsr.training.compression import compress

QUANT = ("fp32", "fp16", "int8")
PARITY_FRAMES = 3  # frames of a clip on which a file is compared with `model.step`


@dataclasses.dataclass(frozen=True)
class Request:
    """What file to make.

    Attributes:
        size: (height, width) of the input frames.
        quant: "fp32", "fp16" (16-bit weights) or "int8" (integers throughout).
        calibration: folder of clips, whose ranges of values int8 needs; None: none.
        steps: of distillation on these clips, after which a changed network is exported.
        prune, clusters: as in `training.compression.compress`.
        prune_channels: fraction of the channels between convolutions that are removed.
    """

    size: tuple[int, int]
    quant: str = "fp32"
    calibration: pathlib.Path | None = None
    steps: int = 0
    prune: float = 0.0
    clusters: int = 0
    prune_channels: float = 0.0

    @property
    def compressed(self) -> bool:
        """Whether channels are removed, or kernels pruned or clustered."""
        return bool(self.prune or self.clusters or self.prune_channels)


def export_phone_file(
    model: nn.Module,
    variables: Any,
    request: Request,
    origin: Mapping[str, Any],
    name: str,
    out: pathlib.Path,
) -> pathlib.Path:
    """Writes NAME_HEIGHTxWIDTH_QUANT.tflite and .json, and prints a table.

    Args:
        model, variables: the network.
        request: what file to make.
        origin: source of the weights, for the description.
        name: start of the file names.
        out: folder, made if it does not exist.

    Returns:
        Path of the .tflite file.

    Raises:
        InputError: the network, the size, the calibration or the folder is wrong, or a package of
            the extra "export" is missing.
    """
    _check(request)
    graph = phone_graph(model, variables, request.size)
    narrower = narrower_graph(graph, request.prune_channels)
    litert.require_packages()
    make_folder(out)
    clips = [moving_texture(request.size)]
    if request.calibration is not None:
        clips = read_clips(request.calibration, request.size)
    fp32 = litert.convert(graph)
    rows = {"fp32": measure(graph, fp32, fp32, clips)}
    changed, data = graph, fp32
    if request.compressed or request.steps:
        changed = changed_graph(graph, narrower, request, clips)
        data = litert.convert(changed)
    data = quantize(changed, data, request.quant, clips)
    if data is not fp32:
        label = f"{request.quant}, compressed" if request.compressed else request.quant
        rows[label] = measure(changed, data, fp32, clips)
    stem = f"{name}_{request.size[0]}x{request.size[1]}_{request.quant}"
    described = describe(changed, data, list(rows.values())[-1], origin)
    path = out / f"{stem}.tflite"
    write_described(path, data, described)
    say(table(rows))
    say(f"{'PSNR' if request.calibration else 'PSNR (random texture)'}: against fp32's output")
    say(f"wrote {path} and {path.with_suffix('.json').name}")
    return path


def _check(request: Request) -> None:
    """Raises InputError for impossible or contradictory settings."""
    if request.quant not in QUANT:
        raise InputError(f"--quant={request.quant} must be one of: {', '.join(QUANT)}")
    if request.quant == "int8" and request.calibration is None:
        raise InputError("--quant=int8 needs --calibration=FOLDER: images or videos of --size")
    if request.steps and request.calibration is None:
        raise InputError("--qat trains on frames: add --calibration=FOLDER")
    if request.steps and request.quant != "int8" and not request.compressed:
        raise InputError(
            "--qat needs --quant=int8, --prune, --clusters or --prune_channels: it imitates them"
        )
    if not 0 <= request.prune < 1:
        raise InputError(f"--prune={request.prune} must be a fraction, at least 0 and below 1")
    if request.clusters < 0 or request.clusters == 1:
        raise InputError(f"--clusters={request.clusters} must be 0 (off) or at least 2")


def narrower_graph(graph: PhoneGraph, fraction: float) -> PhoneGraph:
    """Removes channels; raises InputError if the network has none to remove."""
    if not fraction:
        return graph
    try:
        model = graph.model.clone(prune_channels=fraction)
    except ValueError as error:
        raise InputError(f"--{error}") from error
    check_prunable(model)
    variables = prune_channels(graph.variables, model, graph.model.prune_channels)
    return dataclasses.replace(graph, model=model, variables=variables)


def changed_graph(
    graph: PhoneGraph, narrower: PhoneGraph, request: Request, clips: list[Clip]
) -> PhoneGraph:
    """Compresses and distils the variables of a graph, which may have fewer channels."""
    params = compress(narrower.variables["params"], request.prune, request.clusters)
    student = dataclasses.replace(narrower, variables={**narrower.variables, "params": params})
    if request.steps:
        variables = distil(
            graph,
            student,
            clips,
            request.steps,
            quantized=request.quant == "int8",
            prune=request.prune,
            clusters=request.clusters,
        )
        student = dataclasses.replace(student, variables=variables)
    return student


def quantize(graph: PhoneGraph, fp32: bytes, quant: str, clips: list[Clip]) -> bytes:
    """Converts the fp32 file of a graph to the precision `quant`."""
    if quant == "fp16":
        return quantization.float16(fp32)
    return quantize_int8(graph, clips) if quant == "int8" else fp32


def quantize_int8(graph: PhoneGraph, clips: list[Clip]) -> bytes:
    """Converts a graph into an int8 file that is calibrated on clips."""
    unclipped = litert.convert(dataclasses.replace(graph, clips=False))
    return quantization.int8(unclipped, quantization.calibrate(unclipped, clips))


def measure(graph: PhoneGraph, data: bytes, fp32: bytes, clips: list[Clip]) -> dict[str, Any]:
    """Measures a file.

    Args:
        graph: of the network.
        data: the file.
        fp32: the unquantized file.
        clips: to compare the two on.

    Returns:
        bytes, zipped_bytes, operations, parity_sr and parity_hidden (relative L2 error against
        `model.step`), psnr (against fp32, dB; None: equal) and ms (processor time of a frame, one
        thread).
    """
    player, reference = Player(data), Player(fp32)
    score = None
    if data != fp32:
        scores = [psnr(player.upscale(clip), reference.upscale(clip)) for clip in clips]
        score = float(np.mean(scores))
    return {
        "bytes": len(data),
        "zipped_bytes": len(zlib.compress(data, 9)),
        "operations": sum(flatbuffer.operations(data).values()),
        **parity(graph, player, clips[0]),
        "psnr": score if score is None or math.isfinite(score) else None,
        "ms": 1e3 * player.seconds(clips[0]),
    }


def parity(graph: PhoneGraph, player: Player, clip: Clip) -> dict[str, float]:
    """Relative L2 errors of a file's images and states against `model.step`, on the first frames.

    Both run on their own states from the first frame on.
    """
    model = graph.model
    step = jax.jit(lambda state, frames: model.apply(graph.variables, state, frames, method="step"))
    clip = clip[:PARITY_FRAMES]
    state = model.initial_state((1, *clip.shape[1:]))
    found: dict[str, list[np.ndarray]] = {"parity_sr": [], "parity_hidden": []}
    expected: dict[str, list[np.ndarray]] = {"parity_sr": [], "parity_hidden": []}
    for frames, outputs in zip(
        windows(clip, graph.frames[-1] // 3), player.play(clip), strict=True
    ):
        window = np.stack(np.split(frames, frames.shape[-1] // 3, axis=-1), axis=1)
        sr, state = step(state, np.float32(window) / 255)
        found["parity_sr"].append(outputs["sr"])
        expected["parity_sr"].append(255 * np.clip(sr, 0, 1))
        if graph.hidden:
            end = player.ends["hidden_out"]
            hidden = end.scale * (outputs["hidden_out"].astype(np.float32) - end.zero_point)
            found["parity_hidden"].append(np.asarray(hidden))
            expected["parity_hidden"].append(np.asarray(state))
    return {name: _relative(found[name], expected[name]) for name in found if found[name]}


def _relative(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Relative L2 error over all arrays."""
    error = sum(np.square(np.float64(a) - b).sum() for a, b in zip(found, expected, strict=True))
    norm = sum(np.square(np.float64(b)).sum() for b in expected)
    return math.sqrt(error / norm) if norm else math.sqrt(error)


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Formats the measurements of files by quantization."""
    heads = ["", "bytes", "zipped", "ops", "parity sr", "parity hidden", "PSNR", "ms a frame"]
    cells = [
        [
            quant,
            f"{row['bytes']:,}",
            f"{row['zipped_bytes']:,}",
            str(row["operations"]),
            f"{row['parity_sr']:.1e}",
            f"{row['parity_hidden']:.1e}" if "parity_hidden" in row else "",
            "equal" if row["psnr"] is None else f"{row['psnr']:.2f}",
            f"{row['ms']:.1f}",
        ]
        for quant, row in rows.items()
    ]
    return markdown(heads, cells)


def describe(
    graph: PhoneGraph, data: bytes, measured: Mapping[str, Any], origin: Mapping[str, Any]
) -> dict[str, Any]:
    """Describes a file for the program that runs it."""
    names = ["previous", "current", "next"][: graph.frames[-1] // 3]
    return {
        "signature": flatbuffer.SIGNATURE,
        "scale": graph.model.scale,
        "lookahead": graph.model.lookahead,
        "frames": f"{', '.join(names)} frame: RGB channels in this order, 0 to 255, rows first",
        "sr": "RGB, 0 to 255",
        **({"hidden": "zero at the start of a clip, then hidden_out"} if graph.hidden else {}),
        "ends": {name: dataclasses.asdict(end) for name, end in flatbuffer.ends(data).items()},
        "operations": flatbuffer.operations(data),
        "measured": dict(measured),
        "sha256": hashlib.sha256(data).hexdigest(),
        "weights_sha256": weights_hash(graph.variables),
        "source": dict(origin),
        "versions": {name: _version(name) for name in ("jaxvsr", "jax", "litert-converter")},
    }


def weights_hash(variables: Any) -> str:
    """SHA-256 of the weights in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(flatten_dict(variables, sep="/").items()):
        digest.update(name.encode() + np.asarray(value).tobytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    return importlib.metadata.version(package)
