"""RVRT (Liang et al., NeurIPS 2022): the official recipes, one per task and training set.

    python -m jaxvsr.main --config=configs/rvrt.py:001 --workdir=W    # or no variant, the same
    python -m jaxvsr.main --config=configs/rvrt.py:002,vid4 --workdir=W --mode=eval
    python -m jaxvsr.main --config=configs/rvrt.py:tiny --workdir=W   # minutes on two cores

| variant | task | training set | scores of the paper, PSNR / SSIM |
|---|---|---|---|
| 001 | x4, bicubic | REDS | REDS4 32.75 / 0.9113, RGB |
| 002 | x4, bicubic | Vimeo-90K | Vimeo-90K-T 38.15 / 0.9527, Vid4 27.99 / 0.8462, Y |
| 003 | x4, BD | Vimeo-90K | in the paper's table of BD |
| 004, 005 | deblurring | DVD; GoPro | in the paper's tables of deblurring |
| 006 | denoising | DAVIS, noise of 0 to 50 | in the paper's table of denoising |

Samples have 30 frames of REDS, 7 mirrored frames of Vimeo-90K, or 16 frames of the others. Paper:
https://arxiv.org/abs/2206.02146. The weights, for non-commercial use, are on
https://github.com/JingyunLiang/RVRT/releases, the authors' settings in https://github.com/cszn/KAIR
(options/rvrt). Cost according to the paper: 8 GPUs with 1 clip each.

Training starts from SpyNet's built-in weights, that of the paper from the official ones:
--config.train.spynet_weights=spynet_sintel_final-3d2a1287.pth. SpyNet is frozen for 30,000
iterations. 002 and 003 start from 001 and train SpyNet from the first step. In evaluation, clips
with an odd number of frames repeat the last one, and tiles have the size of the authors' test
script.

Prepare DVD, GoPro and DAVIS as clips of your own, under these names (docs/data.md).
"""

import ml_collections

from configs import protocols
from jaxvsr.config import defaults, unknown_variant

VARIANTS = ("001", "002", "003", "004", "005", "006", "tiny")


def get_config(arg: str = "001") -> ml_collections.ConfigDict:
    """Returns a variant: "001" to "006" or "tiny", and optionally a benchmark: "002,vid4"."""
    recipe, benchmark = protocols.split(arg, VARIANTS)
    if recipe not in VARIANTS:
        raise unknown_variant(recipe, *VARIANTS)
    config = defaults()
    config.model = ml_collections.ConfigDict(
        {
            "name": "rvrt",
            "dim": 144,
            "num_blocks": (1, 2, 1),
            "depths": (2, 2, 2),
            "num_heads": (6, 6, 6),
            "window_size": (2, 8, 8),
            "mlp_ratio": 2.0,
            "inputconv_groups": (1, 1, 1, 1, 1, 1),
            "deform_groups": 12,
            "attention_heads": 12,
            "attention_window": (3, 3),
            "max_residue": 10.0,
            "mid_channels": 64,
            "features_hr": 64,
            "scale": 4,
            "noise_level": False,
            "align": True,
            "dtype": "bfloat16",
            "remat": True,
            "unroll": 1,
        }
    )
    config.data.update(frames=30, batch=8)
    config.optim.update(lr=4e-4, ema=0.0, flow_lr_mul=0.25, fix_flow=30_000)
    config.loss.eps = 1e-9
    config.train.steps = 600_000
    config.eval.tile = (0, 128, 128)
    match recipe:
        case "002":
            vimeo(config, "vimeo90k")
        case "003":
            vimeo(config, "vimeo90k/bd")
        case "004":
            same_size(config, "frames/dvd")
        case "005":
            same_size(config, "frames/gopro")
        case "006":
            same_size(config, "frames/davis")
            config.model.update(inputconv_groups=(1, 3, 4, 6, 8, 4), noise_level=True)
            config.data.noise, config.eval.noise = (0, 50), 30
        case "tiny":
            tiny(config)
    protocols.apply(config, benchmark)
    config.eval.multiple = config.model.window_size
    return config


def vimeo(config: ml_collections.ConfigDict, dataset: str) -> None:
    """Changes data, training and evaluation to the recipes for Vimeo-90K."""
    config.data.update(dataset=dataset, frames=7, reverse=True, mirror=True)
    config.optim.update(lr=2e-4, fix_flow=0)
    config.train.steps = 300_000
    protocols.apply(config, "vimeo90k_t_mirror")
    config.eval.update(dataset=dataset, tile=(0, 0, 0))


def same_size(config: ml_collections.ConfigDict, dataset: str) -> None:
    """Changes network and data to tasks whose output has the size of the input."""
    config.model.update(scale=1, dim=192, inputconv_groups=(1, 3, 3, 3, 3, 3))
    config.data.update(dataset=dataset, frames=16)
    config.eval.update(dataset=dataset, split="val", tile=(0, 256, 256))


def tiny(config: ml_collections.ConfigDict) -> None:
    """Changes the recipe to a small network and the embedded data set, for a quick complete run.

    SpyNet is left out: it would take most of the time.
    """
    config.model.update(
        dim=16,
        num_blocks=(1, 1, 1),
        num_heads=(1, 1, 1),
        deform_groups=2,
        attention_heads=2,
        mid_channels=16,
        features_hr=16,
        align=False,
    )
    small(config)


def small(config: ml_collections.ConfigDict) -> None:
    """Changes data, training and evaluation to those of a small network."""
    config.model.update(dtype="float32", remat=False)
    protocols.embedded(config)
    config.eval.update(every=150, tile=(0, 0, 0))
    config.optim.update(lr=2e-3, ema=0.99)
    config.train.update(steps=300, log_every=20, checkpoint_every=150)
