"""MIA-VSR (Zhou et al., CVPR 2024): the published recipes.

    python -m jaxvsr.main --config=configs/miavsr.py --workdir=W          # or :reds, the same
    python -m jaxvsr.main --config=configs/miavsr.py:vimeo --workdir=W
    python -m jaxvsr.main --config=configs/miavsr.py:tiny --workdir=W     # minutes on two cores

Published scores (table 2): REDS4 32.78 dB / 0.9220, RGB (the authors' settings take the SSIM on
Y); of the Vimeo-90K recipe, Vimeo-90K-T 38.22 / 0.9532 and Vid4 28.20 / 0.8507, on Y.
Published cost: 8 GPUs with 3 clips each; 1.61 TFLOP a frame of 180x320. On 8 TPUs of 16 GiB
--config.train.accumulate=3 computes the clips one after the other (docs/tpu.md).

SpyNet gets no gradient here, since patch alignment rounds its flow. It needs its weights:
--config.train.spynet_weights=spynet_sintel_final-3d2a1287.pth, which is a part of the authors'
repository (https://github.com/LabShuHangGU/MIA-VSR).
"""

import ml_collections

from configs import protocols
from jaxvsr.config import defaults, unknown_variant

VARIANTS = ("reds", "vimeo", "tiny")

# Fields that networks without masks do not have.
MASKS = ("use_mask", "gating", "threshold", "keep_share", "window_masks")


def get_config(arg: str = "reds") -> ml_collections.ConfigDict:
    """The config of a variant: "reds", "vimeo" or "tiny", and perhaps ",vid4": a benchmark."""
    recipe, _, benchmark = arg.partition(",")
    config = defaults()
    config.model = ml_collections.ConfigDict(
        {
            "name": "miavsr",
            "dim": 120,
            "depths": (6, 6, 6, 6),
            "num_heads": (6, 6, 6, 6),
            "window_size": (3, 8, 8),
            "mlp_ratio": 2.0,
            "mid_channels": 64,
            "features_hr": 64,
            "scale": 4,
            "drop_path": 0.1,
            "align": True,
            "use_mask": True,
            "gating": "dense",
            "threshold": 0.0,
            "keep_share": 0.0,
            "window_masks": False,
            "dtype": "bfloat16",
            "remat": True,
            "unroll": 1,
        }
    )
    config.loss.sparsity = 1e-4
    match recipe:
        case "reds":
            pass
        case "vimeo":
            config.data.update(dataset="vimeo90k", frames=7, mirror=True)
            protocols.apply(config, "vimeo90k_t")
            config.optim.update(lr=1e-4, flow_lr_mul=0.25, fix_flow=0)
            config.train.steps = 300_000
        case "tiny":
            tiny(config)
        case _:
            raise unknown_variant(recipe, *VARIANTS)
    protocols.apply(config, benchmark)
    return config


def tiny(config: ml_collections.ConfigDict) -> None:
    """A small network on the embedded data set, for a look at the whole way.

    SpyNet would be most of its arithmetic, and has no weights: it is left out.
    """
    config.model.update(
        dim=16,
        depths=(2,),
        num_heads=(1,),
        mid_channels=16,
        features_hr=16,
        align=False,
        dtype="float32",
        drop_path=0.0,
        remat=False,
    )
    protocols.embedded(config)
    config.eval.every = 400
    config.optim.update(lr=2e-3, ema=0.99)
    config.loss.sparsity = 4e-6  # a token is worth less here: 1e-4 would have none computed
    config.train.update(steps=1200, log_every=20, checkpoint_every=200)
