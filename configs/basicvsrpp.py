"""BasicVSR++ (Chan et al., CVPR 2022): the official recipes.

    python -m jaxvsr.main --config=configs/basicvsrpp.py --workdir=W          # or :reds, the same
    python -m jaxvsr.main --config=configs/basicvsrpp.py:vimeo --workdir=W
    python -m jaxvsr.main --config=configs/basicvsrpp.py:tiny --workdir=W     # minutes on two cores

Scores of the paper: REDS4 32.39 dB / 0.9069, RGB; Vimeo-90K recipe with MATLAB's bicubic:
Vimeo-90K-T 37.79 / 0.9500 and Vid4 27.79 / 0.8400, Y. Vimeo-90K-T is scored with mirrored
septuplets (`vimeo90k_t_mirror`). Cost according to the paper: 0.39 TFLOP per frame of 180x320.

The recipe follows the authors' configs in MMEditing, but for SpyNet's built-in weights. The
official ones: --config.train.spynet_weights=spynet_sintel_final-3d2a1287.pth. Training on
Vimeo-90K starts from the network trained on REDS, and trains SpyNet from the first step.
"""

import ml_collections

from configs import basicvsr, protocols
from jaxvsr.config import defaults, unknown_variant

VARIANTS = ("reds", "vimeo", "tiny")


def get_config(arg: str = "reds") -> ml_collections.ConfigDict:
    """Returns a variant: "reds", "vimeo" or "tiny", and optionally a benchmark: "vimeo,vid4"."""
    recipe, benchmark = protocols.split(arg, VARIANTS)
    config = defaults()
    config.model = ml_collections.ConfigDict(
        {
            "name": "basicvsrpp",
            "dim": 64,
            "depth": 7,
            "features_hr": 64,
            "scale": 4,
            "is_low_res_input": True,
            "align": True,
            "dtype": "bfloat16",
            "remat": True,
            "unroll": 1,
        }
    )
    config.data.update(frames=30, batch=8)
    # MMEditing counts its iterations from 0: SpyNet is frozen for 5,000, one more than in BasicSR.
    config.optim.update(lr=1e-4, flow_lr_mul=0.25, fix_flow=5001, ema=0.0)
    config.train.steps = 600_000
    match recipe:
        case "reds":
            pass
        case "vimeo":
            config.data.update(dataset="vimeo90k", frames=7, mirror=True)
            protocols.apply(config, "vimeo90k_t_mirror")
            config.optim.fix_flow = 0
            config.train.steps = 300_000
        case "tiny":
            config.model.update(dim=16, depth=1, features_hr=16)
            basicvsr.tiny(config)
            config.train.steps = 400
            config.eval.every = 400
        case _:
            raise unknown_variant(recipe, *VARIANTS)
    protocols.apply(config, benchmark)
    return config
