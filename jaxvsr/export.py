"""Exports a network as a file for phones (LiteRT) or for servers (StableHLO).

    jaxvsr export --preset=swrn --size=180x320 --out=phone
    jaxvsr export --preset=swrn --size=180x320 --quant=int8 --calibration=frames/ --out=phone
    jaxvsr export --workdir=runs/sort --size=180x320 --out=phone
    jaxvsr export --workdir=runs/mia --format=stablehlo --frames=10 --size=180x320 --out=server

Writes a .tflite file, which runs one frame with the signature frames[, hidden] -> sr[, hidden_out],
and a .json file, which describes it; this needs pip install 'jaxvsr[export]'. Or writes a
.stablehlo file, which runs clips of --frames frames: lq (b, t, h, w, 3) -> sr.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from jaxvsr import cli

    cli.start("export")

import functools
import pathlib
from typing import Any

from absl import flags

from jaxvsr import cli, presets
from jaxvsr.errors import InputError
from jaxvsr.exporting.output import make_folder
from jaxvsr.exporting.phone_file import QUANT, Request, export_phone_file
from jaxvsr.exporting.phone_graph import as_mobile
from jaxvsr.exporting.stablehlo import export_stablehlo, write_stablehlo
from jaxvsr.exporting.web_page import write_page
from jaxvsr.upscale import load_network, network_config

FRAMES = 10  # of a clip, in a StableHLO program
# Of --format=tflite.
PHONE_FLAGS = ("quant", "calibration", "qat", "prune", "clusters", "prune_channels", "page")


def main(value: dict[str, Any]) -> None:
    """Runs the command with the values of its flags."""
    size, out = cli.parse_size(value["size"]), pathlib.Path(value["out"])
    phone = value["format"] == "tflite"
    given = [flag for flag in PHONE_FLAGS if value[flag]]
    if not phone and given:
        raise InputError(f"--{given[0]} is for --format=tflite")
    if phone and value["frames"]:
        raise InputError("--frames is for --format=stablehlo: a .tflite file runs one frame")
    config = network_config(value)
    if config and phone:
        from jaxvsr.preflight import create_model  # needs TFDS, which built-in weights do without

        as_mobile(create_model(config))
    model, variables, origin = load_network(config, value["workdir"], value["preset"])
    name = config.model.name if config else value["preset"] or presets.DEFAULT
    if phone:
        folder = pathlib.Path(value["calibration"]) if value["calibration"] else None
        request = Request(
            size=size,
            quant=value["quant"] or "fp32",
            calibration=folder,
            steps=value["qat"],
            prune=value["prune"],
            clusters=value["clusters"],
            prune_channels=value["prune_channels"],
        )
        path = export_phone_file(model, variables, request, origin, name, out)
        if value["page"]:
            write_page(path)
        return
    frames = value["frames"] or FRAMES
    data = export_stablehlo(model, variables, size, frames)
    make_folder(out)
    write_stablehlo(data, origin, f"{name}_{frames}x{size[0]}x{size[1]}", out)


def command(name: str) -> cli.Command:
    """Describes the command "export"."""
    values = flags.FlagValues()
    text = functools.partial(flags.DEFINE_string, flag_values=values)
    count = functools.partial(flags.DEFINE_integer, lower_bound=0, flag_values=values)
    choice = functools.partial(flags.DEFINE_enum, flag_values=values)
    cli.define_config(values)
    path = functools.partial(cli.define_path, default="", values=values)
    cli.define_run(values)
    text("preset", "", f"Built-in weights without --workdir: {' or '.join(presets.names())}")
    text("size", "", "HEIGHTxWIDTH of the input frames: 180x320")
    choice("format", "tflite", ("tflite", "stablehlo"), "tflite: a phone's file, for LiteRT")
    count("frames", 0, f"Frames of a clip, with --format=stablehlo; default {FRAMES}")
    choice("quant", None, QUANT, "fp16: 16-bit weights; int8: 8-bit integers; default fp32")
    path("calibration", text="Folder of images or videos of --size, for int8 and --qat")
    count("qat", 0, "Steps of distillation: training that imitates int8, keeps zeros and clusters")
    flags.DEFINE_float(
        "prune", 0.0, "Fraction of each kernel's values set to zero", flag_values=values
    )
    count("clusters", 0, "Number of distinct values of each kernel; 0: any")
    flags.DEFINE_float(
        "prune_channels",
        0.0,
        "Fraction of the channels between convolutions that are removed; use it with --qat",
        flag_values=values,
    )
    flags.DEFINE_bool("page", False, "Add a page that runs the file in a browser", values)
    path("out", text="Folder of the files")
    return cli.Command(__doc__, main, values, required=("size", "out"))
