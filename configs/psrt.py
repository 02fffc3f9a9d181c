"""PSRT-recurrent (Shi et al., NeurIPS 2022): the published recipes.

    python -m jaxvsr.main --config=configs/psrt.py --workdir=W          # or :reds, the same
    python -m jaxvsr.main --config=configs/psrt.py:vimeo --workdir=W
    python -m jaxvsr.main --config=configs/psrt.py:tiny --workdir=W     # minutes on two cores

Published scores (the paper's comparison with other systems): REDS4 32.72 dB / 0.9106, RGB; of the
Vimeo-90K recipe, Vimeo-90K-T 38.27 / 0.9536 and Vid4 28.07 / 0.8485, on Y.
Published cost: 8 GPUs with 1 clip each; 2.39 TFLOP a frame of 180x320, a multiply-add as one.

SpyNet gets no gradient here, since patch alignment rounds its flow. It needs its weights:
--config.train.spynet_weights=spynet_sintel_final-3d2a1287.pth, the file that the authors' settings
(https://github.com/XPixelGroup/RethinkVSRAlignment) name.
"""

import ml_collections

from configs import iiavsr

VARIANTS = iiavsr.VARIANTS


def get_config(arg: str = "reds") -> ml_collections.ConfigDict:
    """The config of a variant: "reds", "vimeo" or "tiny", and perhaps ",vid4": a benchmark."""
    config = iiavsr.get_config(arg)
    config.model.name = "psrt"
    if arg.partition(",")[0] == "tiny":
        # Three frames ask where one does in IIA-VSR: a step takes nearly twice as long.
        config.train.steps = 600
        config.eval.every = 200
    else:
        config.model.update(depths=(6, 6, 6), num_heads=(6, 6, 6))
        config.data.batch = 8
    return config
