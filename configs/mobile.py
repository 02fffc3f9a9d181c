"""Networks for phones: SWRN, MobileRRN, FANI, and the rows of FANI's work log.

    python -m jaxvsr.main --config=configs/mobile.py:MVSR_13_4 --workdir=W
    python -m jaxvsr.main --config=configs/mobile.py:SWRN,vimeo --workdir=W
    python -m jaxvsr.main --config=configs/mobile.py:FANI_scaled,tiny --workdir=W  # minutes

A variant is NETWORK[,RECIPE[,BENCHMARK]]. The networks are SWRN, MobileRRN, FANI, FANI_scaled (with
the corrected alignment), and those of `configs.mobile_rows.ROWS`. The recipes are "reds" (default),
"vimeo" and "tiny". "reds" trains on REDS' 240 official training clips and scores the 30 official
validation clips as the work log does (`reds30`): means over all frames of unrounded RGB, not
comparable with REDS4. docs/mobile.md lists its scores.
"""

import dataclasses
import difflib
from typing import Any

import ml_collections

from configs import protocols
from configs.mobile_rows import ROWS, Row
from jaxvsr import models
from jaxvsr.config import defaults, unknown_variant

NETWORKS: dict[str, Row] = {
    "SWRN": ("swrn", {}),
    "MobileRRN": ("mobile_rrn", {}),
    "FANI": ("fani", {}),
    "FANI_scaled": ("fani", {"scaled": True}),
    **ROWS,
}
VARIANTS = tuple(NETWORKS)
RECIPE_NAMES = ("reds", "vimeo", "tiny")
# Differences between the official recipes; all networks of the work log were trained as FANI.
RECIPES: dict[str, dict[str, Any]] = {
    "swrn": {
        "batch": 16,
        "steps": 250_000,
        "lr": 1e-3,
        "lr_steps": ((40_000, 5e-4), (100_000, 2.5e-4), (150_000, 1e-4), (200_000, 5e-5)),
    },
    "mobile_rrn": {"batch": 4, "steps": 1_500_000, "lr": 1e-4, "lr_steps": ((999_999, 1e-5),)},
    "fani": {
        "batch": 4,
        "steps": 50_000,
        "lr": 1e-3,
        "lr_steps": ((20_000, 5e-4), (30_000, 2.5e-4), (40_000, 1e-4)),
    },
}


def get_config(arg: str = "FANI") -> ml_collections.ConfigDict:
    """Returns the variant "network", "network,recipe" or "network,recipe,benchmark"."""
    network, _, rest = arg.partition(",")
    recipe, benchmark = protocols.split(rest, RECIPE_NAMES)
    if network not in NETWORKS:
        close = difflib.get_close_matches(network, NETWORKS, n=5, cutoff=0)
        raise ValueError(f"unknown network {network!r}; the closest are {', '.join(close)}")
    name, fields = NETWORKS[network]
    config = defaults()
    config.model = ml_collections.ConfigDict(_fields(name, fields))
    official = RECIPES.get(name, RECIPES["fani"])
    config.data.frames = 10
    config.data.batch = official["batch"]
    # The official code uses flips and rotations by 90 degrees; flips and transposition are the
    # same group.
    config.optim.update(lr=official["lr"], lr_steps=official["lr_steps"])
    config.optim.update(b2=0.999, eps=1e-7, ema=0.0)
    config.loss.update(eps=1e-6, peak=255.0, sum_frames=True)
    config.train.steps = official["steps"]
    match recipe:
        case "" | "reds":
            config.data.split = "train_official"
            protocols.apply(config, "reds30")
        case "vimeo":
            config.data.dataset, config.data.frames = "vimeo90k", 7
            protocols.apply(config, "vimeo90k_t")
        case "tiny":
            protocols.embedded(config)
            config.eval.every = 500
            config.optim.update(lr_steps=(), lr_end=1e-5)
            config.train.update(steps=2000, log_every=50, checkpoint_every=500)
        case _:
            raise unknown_variant(recipe, *RECIPE_NAMES)
    protocols.apply(config, benchmark)
    return config


def _fields(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Returns every field of a model, to be set on the command line."""
    model = models.create(name, dtype="float32", **fields)
    known = [f.name for f in dataclasses.fields(model) if f.name not in ("parent", "name")]
    return {"name": name} | {field: getattr(model, field) for field in known}
