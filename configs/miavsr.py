"""MIA-VSR (Zhou et al., CVPR 2024): the official recipes.

    python -m jaxvsr.main --config=configs/miavsr.py --workdir=W          # or :reds, the same
    python -m jaxvsr.main --config=configs/miavsr.py:vimeo --workdir=W
    python -m jaxvsr.main --config=configs/miavsr.py:tiny --workdir=W     # minutes on two cores

Scores of the paper (table 2): REDS4 32.78 dB / 0.9220, RGB (the authors' settings compute SSIM on
Y); Vimeo-90K recipe: Vimeo-90K-T 38.22 / 0.9532 and Vid4 28.20 / 0.8507, Y.
Cost according to the paper: 8 GPUs with 3 clips each; 1.61 TFLOP per frame of 180x320. On 8 TPUs
with 16 GiB, set --config.train.accumulate=3 (docs/tpu.md).

SpyNet gets no gradient, since patch alignment rounds its flow: it keeps its built-in weights, or
the official ones of the paper's recipe: --config.train.spynet_weights=
spynet_sintel_final-3d2a1287.pth, from the authors' repository
(https://github.com/LabShuHangGU/MIA-VSR).
"""

import ml_collections

from configs import protocols
from jaxvsr.config import defaults, unknown_variant

VARIANTS = ("reds", "vimeo", "tiny")

# Fields of masks, which networks without masks do not have.
MASKS = ("use_mask", "gating", "threshold", "keep_share", "window_masks", "mask_start")


def get_config(arg: str = "reds") -> ml_collections.ConfigDict:
    """Returns a variant: "reds", "vimeo" or "tiny", and optionally a benchmark: "vimeo,vid4"."""
    recipe, benchmark = protocols.split(arg, VARIANTS)
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
            "mask_start": 0.0,
            "dtype": "bfloat16",
            "remat": True,
            "unroll": 1,
            "attention": "auto",
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
    """Changes the recipe to a small network and the embedded data set, for a quick complete run.

    SpyNet is left out: it would take most of the time.
    """
    config.model.update(
        dim=16,
        depths=(2,),
        num_heads=(1,),
        mid_channels=16,
        features_hr=16,
        align=False,
        mask_start=0.05,
        dtype="float32",
        drop_path=0.0,
        remat=False,
    )
    protocols.embedded(config)
    config.eval.every = 400
    config.optim.update(lr=2e-3, ema=0.99)
    # With the paper's term, most blocks of a run this short compute no tokens: docs/masks.md.
    config.loss.update(sparsity=5e-5, still_change=0.1)
    config.train.update(steps=1200, log_every=20, checkpoint_every=200)
