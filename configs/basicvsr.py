"""BasicVSR (Chan et al., CVPR 2021): the official recipes.

    python -m jaxvsr.main --config=configs/basicvsr.py --workdir=W          # or :reds, the same
    python -m jaxvsr.main --config=configs/basicvsr.py:vimeo --workdir=W
    python -m jaxvsr.main --config=configs/basicvsr.py:tiny --workdir=W     # minutes on two cores

Scores of the paper: REDS4 31.42 dB / 0.8909, RGB; Vimeo-90K recipe with MATLAB's bicubic:
Vimeo-90K-T 37.18 / 0.9450 and Vid4 27.24 / 0.8251, Y. Vimeo-90K-T is scored with mirrored
septuplets (`vimeo90k_t_mirror`).

The recipe follows BasicSR's option files, but for SpyNet's built-in weights. The official ones:
--config.train.spynet_weights=spynet_sintel_final-3d2a1287.pth.
"""

import ml_collections

from configs import protocols
from jaxvsr.config import defaults, unknown_variant

VARIANTS = ("reds", "vimeo", "tiny")


def get_config(arg: str = "reds") -> ml_collections.ConfigDict:
    """Returns a variant: "reds", "vimeo" or "tiny", and optionally a benchmark: "vimeo,vid4"."""
    recipe, benchmark = protocols.split(arg, VARIANTS)
    config = defaults()
    config.model = ml_collections.ConfigDict(
        {
            "name": "basicvsr",
            "dim": 64,
            "depth": 30,
            "features_hr": 64,
            "scale": 4,
            "align": True,
            "dtype": "bfloat16",
            "remat": True,
            "unroll": 1,
        }
    )
    config.data.update(frames=15, batch=8)
    config.train.steps = 300_000
    match recipe:
        case "reds":
            pass
        case "vimeo":
            config.data.update(dataset="vimeo90k", frames=7, mirror=True)
            protocols.apply(config, "vimeo90k_t_mirror")
        case "tiny":
            config.model.update(dim=16, depth=3, features_hr=16)
            tiny(config)
        case _:
            raise unknown_variant(recipe, *VARIANTS)
    protocols.apply(config, benchmark)
    return config


def tiny(config: ml_collections.ConfigDict) -> None:
    """Changes a small network's recipe to the embedded data set, for a quick complete run.

    SpyNet is left out: it would take most of the time.
    """
    config.model.update(align=False, dtype="float32", remat=False)
    protocols.embedded(config)
    config.eval.every = 500
    config.optim.update(lr=2e-3, ema=0.99)
    config.train.update(steps=1500, log_every=20, checkpoint_every=250)
