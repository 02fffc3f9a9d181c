"""Exports a network as a file for phones (LiteRT).

    jaxvsr export --preset=swrn --size=180x320 --out=phone
    jaxvsr export --preset=swrn --size=180x320 --quant=int8 --calibration=frames/ --out=phone
    jaxvsr export --config=mobile:SORT_2 --checkpoint=runs/sort --size=180x320 --out=phone

Writes a .tflite file, which runs one frame with the signature frames[, hidden] -> sr[, hidden_out],
and a .json file, which describes it. Needs pip install 'jaxvsr[export]'.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from jaxvsr import cli

    cli.start("export")

import functools
import pathlib
import re
from typing import Any

from absl import flags

from jaxvsr import cli, presets
from jaxvsr.config import load_config
from jaxvsr.errors import InputError
from jaxvsr.exporting.phone_file import QUANT, Request, export_phone_file
from jaxvsr.exporting.phone_graph import as_mobile
from jaxvsr.upscale import load_network


def parse_size(text: str) -> tuple[int, int]:
    """Parses HEIGHTxWIDTH."""
    match = re.fullmatch(r"([0-9]+)x([0-9]+)", text)
    if not match:
        raise InputError(f"--size must be HEIGHTxWIDTH, for example 180x320; got {text!r}")
    return int(match[1]), int(match[2])


def main(value: dict[str, Any]) -> None:
    """Runs the command with the values of its flags."""
    if value["overrides"] and not value["config"]:
        raise InputError("fields of a config need --config=FILE")
    request = Request(
        size=parse_size(value["size"]),
        quant=value["quant"],
        calibration=pathlib.Path(value["calibration"]) if value["calibration"] else None,
    )
    config = load_config(value["config"], value["overrides"]) if value["config"] else None
    if config:
        from jaxvsr.preflight import create_model  # needs TFDS, which built-in weights do without

        as_mobile(create_model(config))
    model, variables, origin = load_network(config, value["checkpoint"], value["preset"])
    name = config.model.name if config else value["preset"] or presets.DEFAULT
    export_phone_file(model, variables, request, origin, name, pathlib.Path(value["out"]))


def command(name: str) -> cli.Command:
    """Describes the command "export"."""
    values = flags.FlagValues()
    text = functools.partial(flags.DEFINE_string, flag_values=values)
    cli.define_config(values)
    text("checkpoint", "", "Folder of a run, whose best checkpoint is used")
    text("preset", "", f"Built-in weights without --config: {' or '.join(presets.names())}")
    text("size", "", "HEIGHTxWIDTH of the input frames: 180x320")
    flags.DEFINE_enum(
        "quant",
        "fp32",
        QUANT,
        "fp16: 16-bit weights; int8: 8-bit integers throughout",
        flag_values=values,
    )
    text("calibration", "", "Folder of images or videos of --size, for the ranges of int8")
    text("out", "", "Folder of the files")
    return cli.Command(__doc__, main, values, required=("size", "out"))
