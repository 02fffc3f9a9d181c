"""RVRT-Light, which is RVRT without optical flow: the recipe of MindSpore Lab's mindediting.

    python -m jaxvsr.main --config=configs/rvrt_light.py --workdir=W         # or :vimeo, the same
    python -m jaxvsr.main --config=configs/rvrt_light.py:vimeo,vid4 --workdir=W --mode=eval
    python -m jaxvsr.main --config=configs/rvrt_light.py:tiny --workdir=W   # minutes on two cores

Score of mindediting: Vimeo-90K-T 37.91 dB, Y, mirrored septuplets (`vimeo90k_t_mirror`).

The weights are a MindSpore checkpoint, linked in https://github.com/mindspore-lab/mindediting
(configs/rvrt_light). They were trained on mindediting's own downsampling, which rounds after each
of two passes; here it rounds once, as in the other systems' data.
"""

import ml_collections

from configs import protocols, rvrt
from jaxvsr.config import unknown_variant

VARIANTS = ("vimeo", "tiny")


def get_config(arg: str = "vimeo") -> ml_collections.ConfigDict:
    """Returns a variant: "vimeo" or "tiny", and optionally a benchmark: "vimeo,vid4"."""
    recipe, benchmark = protocols.split(arg, VARIANTS)
    if recipe not in VARIANTS:
        raise unknown_variant(recipe, *VARIANTS)
    config = rvrt.get_config("002" if recipe == "vimeo" else recipe)
    config.model.name = "rvrt_light"
    with config.unlocked():
        for field in ("deform_groups", "max_residue", "align"):
            del config.model[field]
    config.optim.update(flow_lr_mul=0.0, fix_flow=0)
    config.loss.eps = 1e-12
    if recipe == "vimeo":
        config.optim.lr = 2e-4
        config.data.reverse = False
        config.train.steps = 100 * 64_612 // 8  # 100 times the training set
    protocols.apply(config, benchmark)
    return config
