"""Prepares a data set for training and evaluation.

    jaxvsr data dead_leaves/small
    jaxvsr data reds --manual_dir=/where/it/was/downloaded/to --data_dir=/where/to/write
    jaxvsr data frames --config='{"name": "mine", "gt": "/my/clips", "val": ["a_clip"]}'

A data set that is prepared already is left as it is.
"""

import dataclasses
import importlib
import json
import pathlib
from typing import Any

import tensorflow_datasets as tfds
from absl import flags

from jaxvsr import cli, shipped
from jaxvsr.data.sources import TFDSClips
from jaxvsr.errors import InputError, check_like, suggest


def prepare(
    dataset: str,
    *,
    config: str = "",
    manual_dir: str = "",
    data_dir: str = "",
) -> pathlib.Path:
    """Builds a data set unless it exists.

    Args:
        dataset: "name" or "name/config"; without a config the builder's first one.
        config: fields of a new config of the builder, as JSON; "": none.
        manual_dir: folder of the files that must be downloaded by hand.
        data_dir: folder of all data sets; "": TFDS's default.

    Returns:
        The folder of the data set.

    Raises:
        InputError: unknown data set or config, files that are missing or wrong, or another process
            prepares the data set; the data set exists and is damaged.
    """
    name, _, variant = dataset.partition("/")
    folder = shipped.folder("builders")
    known = [path.parent.name for path in folder.glob("*/*_dataset_builder.py")]
    if name not in known:
        raise InputError(f"unknown data set {name!r}{suggest(name, known)}")
    shipped.make_importable("tfds_builders", folder)
    builder_class = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder").Builder
    variants = [each.name for each in builder_class.BUILDER_CONFIGS]
    if variant and variant not in variants:
        raise InputError(f"data set {name!r} has no config {variant!r}{suggest(variant, variants)}")
    fields = _fields(builder_class.builder_config_cls, config)
    made = str(fields["name"]) if fields else variant or variants[0]
    place = pathlib.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    existed = any((place / name / made).glob("[0-9]*"))
    try:
        chosen = builder_class.builder_config_cls(**fields) if fields else made
        builder = builder_class(config=chosen, data_dir=place)
        settings = tfds.download.DownloadConfig(manual_dir=manual_dir or None)
        builder.download_and_prepare(download_config=settings)
        for split in builder.info.metadata["clips"] if existed else ():
            TFDSClips(f"{name}/{made}", split, data_dir)  # is it whole?
    except InputError:
        raise
    # TFDS and its libraries raise their own kinds of errors, and wrap those of the builders.
    except Exception as error:
        reason = " ".join(str(error).split())
        if existed:
            raise InputError(
                f"{dataset}: the data set in {place / name / made} is damaged: remove that folder "
                f"and run this command again ({reason})"
            ) from error
        raise InputError(f"{dataset}: {reason}") from error
    return pathlib.Path(builder.data_dir)


def _fields(config_class: type, text: str) -> dict[str, Any]:
    """Parses the fields of a config; raises InputError unless they are fields of the class."""
    if not text:
        return {}
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise InputError(f"--config is not JSON: {error}; got {text!r}") from error
    if not isinstance(fields, dict) or not fields.get("name"):
        raise InputError(f'--config must be JSON fields with a "name"; got {text!r}')
    known = {field.name: field.default for field in dataclasses.fields(config_class)}
    for field, value in fields.items():
        if field not in known:
            raise InputError(f"--config has no field {field!r}{suggest(field, known)}")
        if isinstance(known[field], str | int | float):
            check_like(f"--config: {field}", value, known[field])
    return fields


def command(name: str) -> cli.Command:
    """Describes the command "data"."""
    values = flags.FlagValues()
    flags.DEFINE_string("config", "", "Fields of a config of your own, as JSON", flag_values=values)
    for flag, text in (
        ("manual_dir", "Folder of the files that must be downloaded by hand"),
        ("data_dir", "Folder of all data sets; TFDS_DATA_DIR or ~/tensorflow_datasets by default"),
    ):
        cli.define_path(flag, "", text, values)

    def main(value: dict[str, Any], dataset: str) -> None:
        del value["overrides"]
        print(f"preparing {dataset}", flush=True)
        print(f"prepared: {prepare(dataset, **value)}")

    return cli.Command(__doc__, main, values, arguments=("DATASET",))
