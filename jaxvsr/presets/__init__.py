"""Built-in weights: small networks that restore right after installation.

Each is two files beside this one: `<name>.safetensors`, the variables, and `<name>.json`, the
config and the seed of the training, by `jaxvsr train` or by `benchmarks.train_preset`. It also
holds the measurements of `benchmarks.preset --record`. A network with SpyNet whose file has no
weights of it was trained with the built-in ones.
"""

import json
import pathlib
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file, save_file

from jaxvsr import models
from jaxvsr.errors import InputError
from jaxvsr.weights.spynet import builtin_spynet

FOLDER = pathlib.Path(__file__).parent
DEFAULT = "swrn"
COMPRESSED = "video"  # for videos of lossy codecs, if it is there


def names(folder: pathlib.Path = FOLDER) -> list[str]:
    """Lists the names of the presets in a folder."""
    return sorted(path.stem for path in folder.glob("*.safetensors"))


def load(name: str, folder: pathlib.Path = FOLDER) -> tuple[nn.Module, Any, dict[str, Any]]:
    """A network with its weights.

    Args:
        name: one of `names()`.
        folder: where the files are.

    Returns:
        The network, its variables for `model.apply`, float32 whatever the file holds, and the
        config of the training.

    Raises:
        InputError: there is no such preset.
    """
    if name not in names(folder):
        raise InputError(f"there is no preset {name!r}, only {', '.join(names(folder))}")
    config = json.loads((folder / f"{name}.json").read_text())
    stored = unflatten_dict(load_file(folder / f"{name}.safetensors"), sep="/")
    variables = jax.tree.map(lambda x: np.asarray(x, np.float32), stored)
    model = models.create(**config["model"])
    if getattr(model, "align", False):
        variables["params"].setdefault("spynet", builtin_spynet())
    return model, variables, config


def size(name: str, folder: pathlib.Path = FOLDER) -> int:
    """Returns the size of a preset's weights, in bytes."""
    return (folder / f"{name}.safetensors").stat().st_size


def record(name: str, measured: dict[str, Any], folder: pathlib.Path = FOLDER) -> None:
    """Stores measurements of a preset in the file of its config.

    Args:
        name: of the preset.
        measured: "psnr_y": clip -> {"bicubic": dB, "preset": dB}, of clean frames; "milliseconds"
            of work per frame of 180x320; "machine" that measured them.
        folder: where the files are.
    """
    path = folder / f"{name}.json"
    config = json.loads(path.read_text()) | {"measured": measured}
    path.write_text(json.dumps(config, indent=2) + "\n")


def save(name: str, variables: Any, config: dict[str, Any], folder: pathlib.Path = FOLDER) -> None:
    """Writes a preset: variables as arrays of NumPy, and the plain config that made them."""
    save_file(flatten_dict(variables, sep="/"), folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(config, indent=2) + "\n")
