"""Prepares a data set for training and evaluation.

    jaxvsr data dead_leaves/small
    jaxvsr data reds --manual_dir=/where/it/was/downloaded/to --data_dir=/where/to/write
    jaxvsr data frames --config='{"name": "mine", "gt": "/my/clips", "val": ["a_clip"]}'

A data set that is prepared already is left as it is.
"""

import importlib
import json
import pathlib
from typing import Any

import tensorflow_datasets as tfds
from absl import flags

from jaxvsr import cli, shipped
from jaxvsr.errors import InputError, suggest
from jaxvsr.locks import locked


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
            prepares the data set.
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
    try:
        fields = json.loads(config) if config else None
        chosen = builder_class.builder_config_cls(**fields) if fields else variant or variants[0]
        builder = builder_class(config=chosen, data_dir=data_dir or None)
        settings = tfds.download.DownloadConfig(manual_dir=manual_dir or None)
        path = pathlib.Path(builder.data_dir)
        if not path.exists():
            with locked(path.with_name(f".{path.name}.lock"), f"preparing {dataset}"):
                builder.download_and_prepare(download_config=settings)
    except (ValueError, TypeError, OSError, AssertionError) as error:
        raise InputError(f"{dataset}: {error}") from error
    return path


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
