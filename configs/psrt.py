"""PSRT-recurrent (Shi et al., NeurIPS 2022): the official recipes.

    python -m jaxvsr.main --config=configs/psrt.py --workdir=W          # or :reds, the same
    python -m jaxvsr.main --config=configs/psrt.py:vimeo --workdir=W
    python -m jaxvsr.main --config=configs/psrt.py:tiny --workdir=W     # minutes on two cores

Scores of the paper (comparison with other systems): REDS4 32.72 dB / 0.9106, RGB; Vimeo-90K recipe:
Vimeo-90K-T 38.27 / 0.9536 and Vid4 28.07 / 0.8485, Y.
Cost according to the paper: 8 GPUs with 1 clip each; 2.39 T multiply-adds per frame of 180x320.

SpyNet gets no gradient, since patch alignment rounds its flow: it keeps its built-in weights, or
the official ones of the paper's recipe: --config.train.spynet_weights=
spynet_sintel_final-3d2a1287.pth, the file of the authors' settings
(https://github.com/XPixelGroup/RethinkVSRAlignment).
"""

import ml_collections

from configs import iiavsr

VARIANTS = iiavsr.VARIANTS


def get_config(arg: str = "reds") -> ml_collections.ConfigDict:
    """Returns a variant: "reds", "vimeo" or "tiny", and optionally a benchmark: "vimeo,vid4"."""
    config = iiavsr.get_config(arg)
    config.model.name = "psrt"
    if arg.partition(",")[0] == "tiny":
        # A step takes nearly twice as long as IIA-VSR's: queries come from three frames, not one.
        config.train.steps = 600
        config.eval.every = 200
    else:
        config.model.update(depths=(6, 6, 6), num_heads=(6, 6, 6))
        config.data.batch = 8
    return config
