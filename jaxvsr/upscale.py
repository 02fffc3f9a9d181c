"""Upscales a video, a folder of images or a single image.

    jaxvsr upscale in.mp4 out.mp4
    jaxvsr upscale photo.png large.png
    jaxvsr upscale frames/ out/ --workdir=runs/mia
    jaxvsr upscale --sample out.mp4
    jaxvsr upscale --list

Without --workdir the weights are those of --preset, which come with the package; without --preset
they are chosen by the input. --list shows the presets. --sample upscales two seconds of a film that
come with the package.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from jaxvsr import cli

    cli.start("upscale")

import functools
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from absl import flags

from jaxvsr import cli, presets
from jaxvsr.config import chosen_config, plain, shared_fields
from jaxvsr.console import be_silent, say
from jaxvsr.distributed import hosts
from jaxvsr.errors import InputError
from jaxvsr.evaluation.markdown import markdown
from jaxvsr.training.state import initial_shapes
from jaxvsr.upscaling.pipeline import upscale_file
from jaxvsr.upscaling.request import (
    COPY,
    FORMATS,
    IMAGES,
    SEGMENT,
    Request,
    parse_option,
    parse_rate,
    parse_tile,
    parse_time,
)
from jaxvsr.upscaling.stream import OVERLAP, Settings, Stream
from jaxvsr.video.codecs import lossy_codec
from jaxvsr.video.encoding import EncoderOptions
from jaxvsr.video.reading import Frame, TimeRange, VideoFile, open_source

SAMPLE = pathlib.Path(__file__).parent / "upscaling" / "sample.mp4"
ATTRIBUTION = "Big Buck Bunny, (c) 2008 Blender Foundation, www.bigbuckbunny.org, CC BY 3.0"
# Flags that may differ between processes, or whose fields are compared one by one.
PER_PROCESS = ("process", "connect_timeout", "config", "overrides", "compile_cache")


def stream(
    frames: Iterable[np.ndarray],
    model: nn.Module,
    variables: Any,
    settings: Settings | None = None,
    devices: list[jax.Device] | None = None,
) -> Iterator[np.ndarray]:
    """Upscales a stream of any length in the memory of a few chunks.

    Args:
        frames: each (h, w, 3) RGB, uint8 or uint16, all of one size and dtype.
        model, variables: the network.
        settings: how the stream is split; None: automatic choices.
        devices: to be used; None: all of this host.

    Yields:
        For each frame (H, W, 3) uint8, or uint16 if `settings.deep`.

    Raises:
        InputError: there are no frames or frames of another kind, a setting is impossible, or the
            memory is too small.
    """
    numbered = (Frame(pixels, i) for i, pixels in enumerate(_checked(frames)))
    settings = settings or Settings()
    upscaler = Stream(model, variables, numbered, settings, devices=devices, say=be_silent)
    for output in upscaler.outputs():
        yield output.sr


def upscale(
    frames: np.ndarray,
    model: nn.Module,
    variables: Any,
    settings: Settings | None = None,
    devices: list[jax.Device] | None = None,
) -> np.ndarray:
    """Upscales a clip.

    Args:
        frames: (t, h, w, 3) RGB, uint8 or uint16.
        model, variables, settings, devices: as for `stream`.

    Returns:
        (t, H, W, 3) uint8, or uint16 if `settings.deep`.

    Raises:
        InputError: as `stream`.
    """
    return np.stack(list(stream(frames, model, variables, settings, devices)))


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields frames; raises InputError for one that is of another kind, or unlike the first."""
    first = None
    for i, pixels in enumerate(frames):
        pixels = np.asarray(pixels)
        if pixels.ndim != 3 or pixels.shape[-1] != 3:
            moved = pixels.ndim == 3 and pixels.shape[0] == 3
            hint = "; move the channels to the last axis" if moved else ""
            raise InputError(f"frame {i} has shape {pixels.shape}; expected (h, w, 3) RGB{hint}")
        if pixels.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"frame {i} is {pixels.dtype}; expected uint8 or uint16 (floats in [0, 1]: "
                "jaxvsr.pixels.to_integers converts them)"
            )
        if 0 in pixels.shape:
            raise InputError(f"frame {i} has shape {pixels.shape}: it holds no pixels")
        first = pixels if first is None else first
        if (pixels.shape, pixels.dtype) != (first.shape, first.dtype):
            raise InputError(
                f"frame {i} has shape {pixels.shape} and dtype {pixels.dtype}, but frame 0 has "
                f"{first.shape} and {first.dtype}: all must be equal"
            )
        yield pixels


def main(value: Mapping[str, Any], *paths: str) -> None:
    """Upscales a file, or lists the presets, as the command line says.

    Args:
        value: of each flag, by name.
        paths: of the input, unless it is the sample, and of the output.

    Raises:
        InputError: a flag, the input or the output is wrong.
    """
    if value["list"]:
        cli.show(table_of_presets())
        return
    source, output = (str(SAMPLE), *paths) if value["sample"] else paths
    config = network_config(value)
    value = {**value, "folder": output.endswith(("/", os.sep))}
    request = _request(value)
    shared = {name: str(value[name]) for name in value if name not in PER_PROCESS}
    shared |= {"input": source, "output": output}
    shared |= shared_fields(config) if config else {}
    with hosts.connected(value, shared):
        if value["sample"]:
            say(f"sample: {ATTRIBUTION}")
        preset = value["preset"] or ("" if config else choose_preset(pathlib.Path(source)))
        model, variables, origin = load_network(config, value["workdir"], preset)
        upscale_file(pathlib.Path(source), pathlib.Path(output), model, variables, request, origin)


def network_config(value: Mapping[str, Any]) -> ml_collections.ConfigDict | None:
    """Loads the config of --config or --workdir; None without them, for a built-in network."""
    if value["config"] or value["workdir"]:
        if value["preset"]:
            raise InputError("--preset has its own weights: leave out --config and --workdir")
        return chosen_config(value)
    if value["overrides"]:
        raise InputError("fields of a config need --workdir=RUN or --config=FILE")
    return None


def choose_preset(source: pathlib.Path) -> str:
    """Chooses the preset for an input, and says why if there is a choice.

    Args:
        source: path of the input.

    Raises:
        InputError: the input cannot be read.
    """
    if presets.COMPRESSED not in presets.names():
        return presets.DEFAULT
    media = open_source(source)
    codec = lossy_codec(source) if isinstance(media, VideoFile) else ""
    if codec:
        other = f"--preset={presets.DEFAULT} is faster, for clean frames"
        say(f"preset {presets.COMPRESSED}: {source} is compressed ({codec}); {other}")
        return presets.COMPRESSED
    what = "is lossless" if isinstance(media, VideoFile) else "holds images"
    other = f"--preset={presets.COMPRESSED} is for compressed video"
    say(f"preset {presets.DEFAULT}: {source} {what}; {other}")
    return presets.DEFAULT


def load_network(
    config: ml_collections.ConfigDict | None, workdir: str, preset: str
) -> tuple[nn.Module, Any, dict[str, Any]]:
    """Loads a network.

    Args:
        config: of the network; None: a built-in one.
        workdir: of the run that holds its weights; "" for a network without parameters.
        preset: name of the built-in network; "": the default.

    Returns:
        The model, its variables, and a description of their origin.
    """
    if config is None:
        model, variables, made = presets.load(preset or presets.DEFAULT)
        return model, variables, {"preset": preset or presets.DEFAULT, **made["model"]}
    # Imported here, since they need TFDS and TensorFlow, which built-in weights do without.
    from jaxvsr.preflight import create_model
    from jaxvsr.training.checkpoints import load_best

    model = create_model(config)
    if not workdir and jax.tree.leaves(initial_shapes(model, ema=False)):
        raise InputError(f"{config.model.name} needs --workdir: give the folder of a run")
    step, variables, _ = load_best(config, model, pathlib.Path(workdir))
    return model, variables, {"checkpoint": workdir, "step": step, **plain(config.model)}


def table_of_presets(folder: pathlib.Path = presets.FOLDER) -> str:
    """Formats sizes, measured scores and speed of the presets in a folder, in Markdown."""
    made = {name: presets.load(name, folder) for name in presets.names(folder)}
    measured = {name: config.get("measured", {}) for name, (*_, config) in made.items()}
    clips = {clip: None for found in measured.values() for clip in found.get("psnr_y", {})}
    uses = {presets.DEFAULT: "default", presets.COMPRESSED: "default for compressed video"}
    rows = []
    for name, (model, variables, _) in made.items():
        found = measured[name]
        scores = [found.get("psnr_y", {}).get(clip) for clip in clips]
        gains = [
            f"{x['preset']:.2f} ({x['preset'] - x['bicubic']:+.2f})" if x else "" for x in scores
        ]
        rows.append(
            [
                f"{name} ({uses[name]})" if name in uses else name,
                f"x{model.scale}",
                f"{sum(leaf.size for leaf in jax.tree.leaves(variables)):,}",
                f"{presets.size(name, folder) / 1000:.0f} kB",
                *gains,
                f"{found['milliseconds']:.0f} ms" if found else "",
            ]
        )
    heads = ["preset", "scale", "parameters", "file", *clips, "time a frame"]
    machines = sorted({found["machine"] for found in measured.values() if found})
    return (
        f"{markdown(heads, rows)}\n\nPSNR on Y (dB) of clean frames, and the gain over bicubic "
        f"interpolation. Processor time of a frame of 180x320: {'; '.join(machines)}."
    )


def _request(value: Mapping[str, Any]) -> Request:
    """Converts the values of flags."""
    try:
        return Request(
            settings=Settings(
                chunk=value["chunk"],
                overlap=value["overlap"],
                tile=parse_tile(value["tile"]),
                tile_overlap=value["tile_overlap"],
                space=value["space"],
                warm_up=value["warm_up"],
                noise=value["noise"],
                self_ensemble=value["self_ensemble"],
                gated=None,
            ),
            encoder=EncoderOptions(
                codec=value["codec"],
                crf=value["crf"],
                lossless=value["lossless"],
                pixel_format=value["pix_fmt"],
                options=tuple(parse_option(text) for text in value["codec_options"]),
                height=value["out_height"],
            ),
            part=TimeRange(parse_time(value["start"]) or Fraction(0), parse_time(value["end"])),
            rate=parse_rate(value["fps"]),
            copy=value["copy"],
            folder=value["folder"],
            images=value["images"],
            quality=value["quality"],
            compare=value["compare"],
            preview=value["preview"],
            segment=value["segment"],
            resume=value["resume"],
            overwrite=value["overwrite"],
        )
    except ValueError as error:
        raise InputError(str(error)) from error


def command(name: str) -> cli.Command:
    """Describes the command "upscale"."""
    values = flags.FlagValues()
    text, whole, number = (
        functools.partial(define, flag_values=values)
        for define in (flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_bool)
    )
    number("list", False, "List the presets with their scores and speed; needs no input")
    number("sample", False, "Upscale a sample video that comes with the package; needs no INPUT")
    cli.define_config(values)
    cli.define_run(values)
    text("preset", "", f"Built-in weights without --workdir: {' or '.join(presets.names())}")
    text("start", "", "Time at which to start: 90, 1:30 or 0:01:30.5")
    text("end", "", "Time at which to end")
    text("fps", "", "Frames per second of images; default 25")
    whole("out_height", 0, "Resize the output to this height; 0: do not resize", lower_bound=0)
    text("codec", "", "FFmpeg's name of an encoder: libx264, libx265, ffv1, prores_ks, ...")
    whole("crf", None, "Constant rate factor, 0 (best) to 63", lower_bound=0, upper_bound=63)
    number("lossless", False, "Store the exact output of the network, as RGB")
    text("pix_fmt", "", "FFmpeg's name of a pixel format: yuv420p10le, ...")
    flags.DEFINE_multi_string(
        "codec_options", [], "Options of the encoder: preset=slow", flag_values=values
    )
    flags.DEFINE_list(
        "copy",
        None,
        f"Streams to copy into a video; default {','.join(COPY)}",
        flag_values=values,
    )
    text("images", "", f"Format of a folder of images: {', '.join(FORMATS)}; default {IMAGES}")
    whole(
        "quality",
        None,
        "JPEG or WebP quality, 1 to 100; default 95",
        lower_bound=1,
        upper_bound=100,
    )
    text("compare", "", "Show bicubic interpolation beside the output: side or split")
    whole("preview", None, "First write this frame as a PNG, beside bicubic", lower_bound=0)
    whole("chunk", 0, "Frames per chunk; 0: automatic", lower_bound=0)
    whole("overlap", None, f"Frames that chunks share; default {OVERLAP}", lower_bound=0)
    text("tile", "", "Tile size WIDTHxHEIGHT in input pixels: 320x180; default automatic")
    whole("tile_overlap", Settings.tile_overlap, "Input pixels that tiles share", lower_bound=0)
    flags.DEFINE_float(
        "noise",
        None,
        "Standard deviation of the input's noise on 0..255, for denoising networks",
        lower_bound=0,
        flag_values=values,
    )
    number(
        "self_ensemble",
        False,
        "Average the outputs for 8 flips and transposes of the input; takes 8 times as long",
    )
    whole("space", 1, "Number of devices that share each frame")
    whole("segment", SEGMENT, "Frames per segment", lower_bound=1)
    number(
        "warm_up",
        True,
        "Show a network that carries a state the mirrored first frames of each scene before it",
    )
    number("resume", False, "Resume an interrupted run")
    number("overwrite", False, "Replace an existing output")
    cli.define_hosts(values)
    return cli.Command(
        __doc__,
        main,
        values,
        arguments=("INPUT", "OUTPUT"),
        modes={"list": (), "sample": ("OUTPUT",)},
        after_interruption="finished segments are kept; continue with --resume",
    )
