"""VRT (Liang et al., IEEE TIP 2024): the official recipes, one per task and training set.

    python -m jaxvsr.main --config=configs/vrt.py:001 --workdir=W     # or no variant, the same
    python -m jaxvsr.main --config=configs/vrt.py:003,vid4 --workdir=W --mode=eval
    python -m jaxvsr.main --config=configs/vrt.py:tiny --workdir=W    # minutes on two cores

| variant | task | training set | scores of the paper, PSNR / SSIM |
|---|---|---|---|
| 001 | x4, bicubic | REDS, 6 frames | REDS4 31.60 / 0.8888, RGB |
| 002 | x4, bicubic | REDS, 16 frames | REDS4 32.19 / 0.9006, RGB |
| 003 | x4, bicubic | Vimeo-90K, 7 frames | Vimeo-90K-T 38.20 / 0.9530, Vid4 27.93 / 0.8425, Y |
| 004 | x4, BD | Vimeo-90K, 7 frames | in the paper's table of BD |
| 005, 006, 007 | deblurring | DVD; GoPro; REDS | in the paper's tables of deblurring |
| 008 | denoising | DAVIS, noise of 0 to 50 | in the paper's table of denoising |
| 009 | interpolation | Vimeo-90K, 4 frames of 7 | in the paper's table of interpolation |

The paper is https://arxiv.org/abs/2201.12288. The weights are on
https://github.com/JingyunLiang/VRT/releases, the authors' settings in https://github.com/cszn/KAIR
(options/vrt). Cost according to the paper: 8 GPUs with 1 clip each; 1.37 T multiply-adds per frame
of 180x320.

Training starts from SpyNet's built-in weights, that of the paper from the official ones:
--config.train.spynet_weights=spynet_sintel_final-3d2a1287.pth. SpyNet and the deformable
convolutions are frozen for 20,000 iterations. 003 and 004 start from 002 and repeat the last frame
of each septuplet, also in evaluation (`vimeo90k_t_repeat`).

Prepare DVD, GoPro and DAVIS as clips of your own, under these names (docs/data.md).
"""

import ml_collections

from configs import protocols
from jaxvsr.config import defaults, unknown_variant

VARIANTS = ("001", "002", "003", "004", "005", "006", "007", "008", "009", "tiny")


def get_config(arg: str = "001") -> ml_collections.ConfigDict:
    """Returns a variant: "001" to "009" or "tiny", and optionally a benchmark: "003,vid4"."""
    recipe, benchmark = protocols.split(arg, VARIANTS)
    if recipe not in VARIANTS:
        raise unknown_variant(recipe, *VARIANTS)
    config = defaults()
    config.model = ml_collections.ConfigDict(
        {
            "name": "vrt",
            "scale": 4,
            "dims": (120,) * 7 + (180,) * 6,
            "depths": (8,) * 7 + (4,) * 6,
            "num_heads": (6,) * 13,
            "window_size": (6, 8, 8),
            "indep_reconsts": (11, 12),
            "mul_attn_ratio": 0.75,
            "pa_frames": 2,
            "deform_groups": 12,
            "noise_level": False,
            "interpolation": False,
            "features_hr": 64,
            "drop_path": 0.2,
            "dtype": "bfloat16",
            "remat": True,
        }
    )
    config.data.update(frames=6, batch=8)
    config.optim.update(lr=4e-4, ema=0.0, fix_flow=20_000, flow_params=("spynet", "deform"))
    config.loss.eps = 1e-9
    config.train.steps = 300_000
    config.eval.update(tile=(40, 128, 128))
    match recipe:
        case "002":
            config.model.update(window_size=(8, 8, 8), pa_frames=6, deform_groups=24)
            config.data.frames = 16
        case "003":
            vimeo(config, "vimeo90k", "vimeo90k_t_repeat")
        case "004":
            vimeo(config, "vimeo90k/bd", "vimeo90k_t_repeat")
            config.eval.dataset = "vimeo90k/bd"
        case "005":
            same_size(config, "frames/dvd", (12, 256, 256))
        case "006":
            same_size(config, "frames/gopro", (18, 192, 192))
        case "007":
            same_size(config, "reds/blur", (12, 256, 256))
            config.eval.split = "reds4"
        case "008":
            same_size(config, "frames/davis", (12, 256, 256))
            config.model.noise_level = True
            config.data.noise, config.eval.noise = (0, 50), 30
        case "009":
            same_size(config, "vimeo90k/clean", (0, 0, 0))
            config.model.update(
                window_size=(4, 8, 8), indep_reconsts=(), pa_frames=0, interpolation=True
            )
            config.data.update(frames=7, reverse=True)
            config.optim.flow_lr_mul = 0.0
            config.eval.split = "test"
            for section in (config.data, config.eval):
                section.update(lq_frames=(0, 2, 4, 6), gt_frames=(3,))
        case "tiny":
            tiny(config)
    protocols.apply(config, benchmark)
    config.eval.multiple = config.model.window_size
    return config


def vimeo(config: ml_collections.ConfigDict, dataset: str, benchmark: str) -> None:
    """Changes network, data and evaluation to the recipes for Vimeo-90K."""
    config.model.update(window_size=(8, 8, 8), pa_frames=4, deform_groups=16)
    frames = (*range(7), 6)  # repeats the last frame of a septuplet
    config.data.update(dataset=dataset, frames=7, reverse=True, lq_frames=frames, gt_frames=frames)
    protocols.apply(config, benchmark)
    config.eval.tile = (32, 128, 128)


def same_size(config: ml_collections.ConfigDict, dataset: str, tile: tuple[int, int, int]) -> None:
    """Changes to the smaller network of tasks whose output has the size of the input."""
    config.model.update(
        scale=1,
        dims=(96,) * 7 + (120,) * 4,
        depths=(8,) * 7 + (4,) * 4,
        num_heads=(6,) * 11,
        indep_reconsts=(9, 10),
        deform_groups=16,
    )
    config.data.update(dataset=dataset, crop=192)
    config.eval.update(dataset=dataset, split="val", tile=tile)


def tiny(config: ml_collections.ConfigDict) -> None:
    """Changes the recipe to a small network and the embedded data set, for a quick complete run.

    SpyNet and parallel warping are left out: SpyNet would take most of the time.
    """
    config.model.update(
        dims=(16,) * 9,
        depths=(2,) * 9,
        num_heads=(2,) * 9,
        window_size=(4, 4, 4),
        indep_reconsts=(8,),
        mul_attn_ratio=0.5,
        pa_frames=0,
        features_hr=16,
        drop_path=0.0,
        dtype="float32",
    )
    protocols.embedded(config)
    config.data.crop = 128  # a window must fit at an eighth of the input's resolution
    config.eval.update(every=200, tile=(0, 0, 0))
    config.optim.update(lr=2e-3, ema=0.99, fix_flow=0)
    config.train.update(steps=400, log_every=20, checkpoint_every=200)
