"""Prepares a data set for training and evaluation.

    jaxvsr data dead_leaves/small
    jaxvsr data reds --manual_dir=/where/it/was/downloaded/to --data_dir=/where/to/write
    jaxvsr data reds --manual_dir=... --clips=8      # the first 8 clips, as a data set of its own
    jaxvsr data reds --manual_dir=... --clips=000,011
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
from jaxvsr.data import parts
from jaxvsr.data.lmdb_clips import is_lmdb
from jaxvsr.data.records import ClipBuilder
from jaxvsr.data.sources import TFDSClips
from jaxvsr.errors import InputError, check_like, suggest
from jaxvsr.files import read_json


def prepare(
    dataset: str,
    *,
    config: str = "",
    clips: str = "",
    manual_dir: str = "",
    data_dir: str = "",
) -> pathlib.Path:
    """Builds a data set unless it exists.

    Args:
        dataset: "name" or "name/config"; without a config the builder's first one.
        config: fields of a new config of the builder, as JSON; "": none.
        clips: a part of the data set, a data set of its own: "8", the first eight clips, or names,
            "000,011"; "": all clips.
        manual_dir: folder of the files that must be downloaded by hand.
        data_dir: folder of all data sets; "": TFDS's default.

    Returns:
        The folder of the data set.

    Raises:
        InputError: unknown data set, config or clip, files that are missing or wrong, or another
            process prepares the data set; the data set exists and is damaged.
    """
    if is_lmdb(dataset):
        raise InputError(f"LMDB folders are read as they are: --config.data.dataset={dataset}")
    name, _, variant = dataset.partition("/")
    builder_class = _builder_class(name)
    place = pathlib.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    made, existed = dataset, False
    try:
        chosen = _choose(builder_class, name, variant, config, clips)
        made = f"{name}/{chosen.name}"
        existed = any((place / made).glob("[0-9]*"))
        builder = builder_class(config=chosen, data_dir=place)
        settings = tfds.download.DownloadConfig(manual_dir=manual_dir or None)
        builder.download_and_prepare(download_config=settings)
        for split in builder.info.metadata["clips"] if existed else ():
            TFDSClips(made, split, data_dir)  # is it whole?
    except InputError:
        raise
    # TFDS and its libraries raise their own kinds of errors, and wrap those of the builders.
    except Exception as error:
        reason = " ".join(str(error).split())
        if existed:
            raise InputError(
                f"{dataset}: the data set in {place / made} is damaged: remove that folder "
                f"and run this command again ({reason})"
            ) from error
        raise InputError(f"{dataset}: {reason}") from error
    return pathlib.Path(builder.data_dir)


def _builder_class(name: str) -> type[ClipBuilder]:
    """Imports the builder of a data set; raises InputError for an unknown name."""
    folder = shipped.folder("builders")
    known = [path.parent.name for path in folder.glob("*/*_dataset_builder.py")]
    shipped.make_importable("tfds_builders", folder)

    def load(name: str) -> type[ClipBuilder]:
        return importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder").Builder

    if name in known:
        return load(name)
    for other in known:
        variants = [config.name for config in load(other).BUILDER_CONFIGS]
        if name.lower() in (other, *variants):
            found = other if name.lower() == other else f"{other}/{name.lower()}"
            raise InputError(f"unknown data set {name!r}; did you mean {found!r}?")
    raise InputError(f"unknown data set {name!r}{suggest(name, known)}")


def _choose(
    builder_class: type[ClipBuilder], name: str, variant: str, config: str, clips: str
) -> tfds.core.BuilderConfig:
    """Returns the config to build; see `prepare` for the arguments.

    Raises:
        InputError: unknown config or field, or a data set that has no parts.
    """
    known = {each.name: each for each in builder_class.BUILDER_CONFIGS}
    has_parts = issubclass(builder_class.builder_config_cls, parts.PartConfig)
    if fields := _fields(builder_class.builder_config_cls, config):
        chosen = builder_class.builder_config_cls(**fields)
    elif not variant or variant in known:
        chosen = known[variant] if variant else builder_class.BUILDER_CONFIGS[0]
    else:
        whole, label = parts.flag_of(variant)
        if not (has_parts and whole in known and label not in ("", "...") and not clips):
            hint = suggest(variant, known)
            if name == "frames":
                hint = f"; give the folder of its clips: {parts.command_for(f'{name}/{variant}')}"
            raise InputError(f"data set {name!r} has no config {variant!r}{hint}")
        chosen, clips = known[whole], label
    if not clips:
        return chosen
    if not has_parts:
        raise InputError(f"--clips is for reds, vimeo90k and test_sets; {name!r} has no parts")
    return parts.part_of(chosen, parts.parse_clips(clips))


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
    flags.DEFINE_string(
        "clips",
        "",
        "Only these clips of reds, vimeo90k or test_sets, or the first N: 000,011 or 8",
        flag_values=values,
    )
    for flag, text in (
        ("manual_dir", "Folder of the files that must be downloaded by hand"),
        ("data_dir", "Folder of all data sets; TFDS_DATA_DIR or ~/tensorflow_datasets by default"),
    ):
        cli.define_path(flag, "", text, values)

    def main(value: dict[str, Any], dataset: str) -> None:
        del value["overrides"]
        print(f"preparing {dataset}", flush=True)
        folder = prepare(dataset, **value)
        print(f"prepared: {folder}")
        made, metadata = "/".join(folder.parts[-3:-1]), read_json(folder / "metadata.json")
        splits = ", ".join(metadata["clips"] | metadata["views"])
        print(f"use it: --config.data.dataset={made}, --config.eval.dataset={made}")
        print(f"splits: {splits}")

    return cli.Command(__doc__, main, values, arguments=("DATASET",))
