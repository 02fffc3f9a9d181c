"""IIA-VSR (Zhou et al., CVPR 2024): MIA-VSR and its recipes, without masks.

    python -m jaxvsr.main --config=configs/iiavsr.py --workdir=W          # or :reds, the same
    python -m jaxvsr.main --config=configs/iiavsr.py:vimeo --workdir=W
    python -m jaxvsr.main --config=configs/iiavsr.py:tiny --workdir=W     # minutes on two cores

SpyNet gets no gradient, since patch alignment rounds its flow: it keeps its built-in weights, or
the official ones of the paper's recipe: --config.train.spynet_weights=
spynet_sintel_final-3d2a1287.pth, from the authors' repository
(https://github.com/LabShuHangGU/MIA-VSR).
"""

import ml_collections

from configs import miavsr

VARIANTS = miavsr.VARIANTS


def get_config(arg: str = "reds") -> ml_collections.ConfigDict:
    """Returns a variant: "reds", "vimeo" or "tiny", and optionally a benchmark: "vimeo,vid4"."""
    config = miavsr.get_config(arg)
    config.model.name = "iiavsr"
    with config.unlocked():
        for field in miavsr.MASKS:
            del config.model[field]
    config.loss.sparsity = 0.0
    return config
