"""IconVSR (Chan et al., CVPR 2021): BasicVSR's recipes.

    python -m jaxvsr.main --config=configs/iconvsr.py --workdir=W          # or :reds, the same
    python -m jaxvsr.main --config=configs/iconvsr.py:vimeo --workdir=W
    python -m jaxvsr.main --config=configs/iconvsr.py:tiny --workdir=W     # minutes on two cores

Scores of the paper: REDS4 31.67 dB / 0.8948, RGB; Vimeo-90K recipe with MATLAB's bicubic:
Vimeo-90K-T 37.47 / 0.9476 and Vid4 27.39 / 0.8279, Y. Vimeo-90K-T is scored with mirrored
septuplets (`vimeo90k_t_mirror`).

As in BasicSR, SpyNet and EDVR's feature extractor train from iteration 5,000 on. They start from
built-in and from random weights, or from BasicSR's:

    --config.train.spynet_weights=spynet_sintel_final-3d2a1287.pth
    --config.train.edvr_weights=edvr_reds_pretrained_new.pth   # :vimeo: edvr_vimeo90k_...
"""

import ml_collections

from configs import basicvsr, protocols

VARIANTS = basicvsr.VARIANTS


def get_config(arg: str = "reds") -> ml_collections.ConfigDict:
    """Returns a variant: "reds", "vimeo" or "tiny", and optionally a benchmark: "vimeo,vid4"."""
    config = basicvsr.get_config(arg)
    recipe, _ = protocols.split(arg, VARIANTS)
    config.model.name = "iconvsr"
    with config.unlocked():
        config.model.keyframe_stride = 2 if recipe == "tiny" else 5
        config.model.temporal_padding = {"vimeo": 3, "tiny": 1}.get(recipe, 2)
    config.optim.fix_part = "edvr"
    if recipe == "tiny":
        config.optim.fix_part = ""
        config.model.depth = 2
        config.train.steps = config.eval.every = 300
    return config
