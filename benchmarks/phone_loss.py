"""What quantization, pruning and clustering of a network for phones cost, on a clip.

    python -m benchmarks.phone_loss swrn --gt=vid4/GT/calendar --frames=reds/000 --quant fp16 int8
    python -m benchmarks.phone_loss swrn --gt=... --frames=... --prune_channels 0.25 0.5 --qat=500
    python -m benchmarks.phone_loss SWAT_3 AFAVSR_1 --train=500 --gt=... --frames=... --quant int8

A network is a preset (swrn, swrn-x2) or a row of configs/mobile.py, which is first trained for
--train steps: on the pictures of --frames, reduced, with themselves as targets. The first 12
pictures of --gt are reduced by the network's scale and upscaled. "loss" is the PSNR (RGB, unrounded
output) of the fp32 file of the whole network minus that of the file, in dB. Two crops of --frames
calibrate int8, and --qat distils on them. "time" is the processor time of a frame with one thread
relative to that fp32 file's, timed in the same rounds. Needs `jaxvsr[export]`.
"""

import argparse
import functools
import pathlib
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.common import machine, make_parser
from configs.mobile import NETWORKS
from jaxvsr import models, presets
from jaxvsr.data.degradations import imresize
from jaxvsr.evaluation.markdown import markdown
from jaxvsr.exporting import litert
from jaxvsr.exporting.clips import Clip, read_clips
from jaxvsr.exporting.phone_file import QUANT, Request, changed_graph, narrower_graph, quantize
from jaxvsr.exporting.phone_graph import PhoneGraph, phone_graph
from jaxvsr.exporting.playing import Player, psnr
from jaxvsr.training.losses import charbonnier
from jaxvsr.video.reading import open_source

SCORED, ROUNDS = 12, 7
BATCH, FRAMES, CROP = 4, 4, 24  # of --train; CROP in input pixels
LEARNING_RATE = 1e-3


def trained(row: str, clip: Clip, steps: int) -> tuple[Any, Any]:
    """A network of the log, trained on crops of a clip that is its own target."""
    name, fields = NETWORKS[row]
    model = models.create(name, **fields)
    lq = imresize(clip, 1 / model.scale)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))
    rng = np.random.default_rng(0)

    def batch() -> tuple[np.ndarray, np.ndarray]:
        pairs = []
        for _ in range(BATCH):
            highest = (len(lq) - FRAMES, lq.shape[1] - CROP, lq.shape[2] - CROP)
            t, y, x = (rng.integers(high + 1) for high in highest)
            pair = [
                frames[t : t + FRAMES, s * y : s * (y + CROP), s * x : s * (x + CROP)]
                for frames, s in ((lq, 1), (clip, model.scale))
            ]
            for axis in (1, 2):
                if rng.random() < 0.5:
                    pair = [np.flip(frames, axis) for frames in pair]
            pairs.append(pair)
        inputs, targets = zip(*pairs, strict=True)
        return np.asarray(inputs, np.float32) / 255, np.asarray(targets, np.float32) / 255

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(variables: Any, state: Any, inputs: Any, targets: Any) -> tuple[Any, Any, Any]:
        rest = {name: value for name, value in variables.items() if name != "params"}

        def loss(params: Any) -> tuple[jax.Array, Any]:
            sr, moved = model.apply(
                {**rest, "params": params}, inputs, train=True, mutable=list(rest)
            )
            return charbonnier(255 * sr, 255 * targets, 1e-6).mean(), moved

        (value, moved), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, state = optimizer.update(grads, state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        return {**rest, **moved, "params": params}, state, value

    variables = jax.jit(model.init)(jax.random.key(0), jnp.asarray(batch()[0]))
    state = optimizer.init(variables["params"])
    for step in range(steps):
        variables, state, value = update(variables, state, *batch())
        if step % 100 == 0 or step == steps - 1:
            print(f"{row}: step {step + 1}, loss {float(value):.3f}", flush=True)
    return model, jax.device_get(variables)


def files(graph: PhoneGraph, clips: list[Clip], options: argparse.Namespace) -> dict[str, bytes]:
    """The files to compare by their flags; fp32 of the whole network first."""
    found = {"fp32": litert.convert(graph)}
    request = functools.partial(Request, size=graph.frames[1:3])
    requests = [request(quant=quant) for quant in options.quant if quant != "fp32"]
    if options.qat and "int8" in options.quant:
        requests.append(request(quant="int8", steps=options.qat))
    for fraction in options.prune_channels:
        requests += [request(prune_channels=fraction, steps=steps) for steps in {0, options.qat}]
        if "int8" in options.quant:
            requests.append(request(quant="int8", prune_channels=fraction, steps=options.qat))
    for each in requests:
        narrower = narrower_graph(graph, each.prune_channels)
        changed = changed_graph(graph, narrower, each, clips)
        fp32 = litert.convert(changed) if each.quant != "int8" else b""
        found[_flags(each)] = quantize(changed, fp32, each.quant, clips)
    return found


def _flags(request: Request) -> str:
    pruned = f" --prune_channels={request.prune_channels}" if request.prune_channels else ""
    return f"{request.quant}{pruned}{f' --qat={request.steps}' if request.steps else ''}"


def compare(label: str, found: dict[str, bytes], lq: Clip, gt: Clip) -> list[list[str]]:
    """A line of the table for each file of a network."""
    players = {flags: Player(data) for flags, data in found.items()}
    seconds = [
        {flags: player.seconds(lq, 1) for flags, player in players.items()} for _ in range(ROUNDS)
    ]
    times = {flags: min(each[flags] for each in seconds) for flags in found}
    scores = {
        flags: psnr(player.upscale(lq).clip(0, 255), gt.astype(np.float32))
        for flags, player in players.items()
    }
    return [
        [
            label,
            flags,
            f"{len(data):,}",
            f"{len(data) / len(found['fp32']):.3f}",
            f"{len(zlib.compress(data, 9)) / len(found['fp32']):.3f}",
            f"{times[flags] / times['fp32']:.2f}",
            f"{scores[flags]:.2f}",
            f"{scores['fp32'] - scores[flags]:.3f}",
        ]
        for flags, data in found.items()
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints the table."""
    options = _parse(arguments)
    gt, clip = (_read(folder) for folder in (options.gt, options.frames))
    gt = gt[:SCORED]
    heads = ["network", "file", "bytes", "of fp32's", "zipped", "time", "PSNR", "loss, dB"]
    rows: list[list[str]] = []
    for name in options.networks:
        if name in NETWORKS:
            model, variables = trained(name, clip, options.train)
        else:
            model, variables, _ = presets.load(name)
        lq = imresize(gt, 1 / model.scale)
        height, width = lq.shape[1:3]
        clips = [clip[:, :height, :width], clip[:, -height:, -width:]]
        graph = phone_graph(model, variables, (height, width))
        rows += compare(name, files(graph, clips, options), lq, gt)
        print(f"\n{markdown(heads, rows)}\n", flush=True)
    print(f"`python -m benchmarks.phone_loss`; {machine()}")


def _read(folder: pathlib.Path) -> Clip:
    height, width = open_source(folder).info().size
    return read_clips(folder, (height, width))[0]


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = make_parser("phone_loss", __doc__)
    parser.add_argument("networks", nargs="+", metavar="NETWORK", help="swrn, SWAT_3, SORT_2, ...")
    for name, text in (("gt", "high resolution, scored"), ("frames", "low resolution, calibrates")):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True, help=f"folder: {text}")
    parser.add_argument("--quant", nargs="*", choices=QUANT, default=(), help="files to compare")
    parser.add_argument("--prune_channels", nargs="*", type=float, default=(), metavar="FRACTION")
    parser.add_argument("--qat", type=int, default=0, help="steps of distillation")
    parser.add_argument("--train", type=int, default=500, help="steps of training of a row")
    options = parser.parse_args(arguments)
    for name in options.networks:
        if name not in (*NETWORKS, *presets.names()):
            parser.error(f"unknown network {name!r}; expected a preset or one of configs/mobile.py")
    return options


if __name__ == "__main__":
    main()
