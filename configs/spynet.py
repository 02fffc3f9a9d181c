"""SpyNet (Ranjan and Black, CVPR 2017), trained on the true flow of synthetic clips.

    python -m jaxvsr.main --config=configs/spynet.py --workdir=W          # or :large, the same
    python -m jaxvsr.main --config=configs/spynet.py:tiny --workdir=W     # minutes on two cores
    python -m jaxvsr.main --config=configs/miavsr.py --workdir=V --config.train.spynet_weights=W

The loss is the end-point error at all levels of the pyramid; pixels that are hidden in the other
frame count a fifth. Brightness, contrast, color, sharpness and noise of the inputs vary. The best
checkpoint is the one with the lowest end-point error on the validation clips of dead_leaves; the
report lists it by kind of clip, beside that of zero flow. "tiny" reaches 0.213 pixels after 150
steps, two minutes of processor time on an AMD EPYC, where zero flow has 0.260 and the built-in
weights have 0.149. PSNR and SSIM are those of frames predicted from their neighbor along the flow.

The built-in weights come from `benchmarks.train_spynet`: the same loss and changes of the inputs,
but larger motion, between frames up to six apart and at three resolutions. Without a GPU start from
them: --config.train.spynet_weights=builtin.
"""

import ml_collections

from configs import protocols
from jaxvsr.config import MOTION, defaults, unknown_variant

VARIANTS = ("large", "tiny")


def get_config(arg: str = "large") -> ml_collections.ConfigDict:
    """Returns a variant: "large" or "tiny"."""
    config = defaults()
    config.model = ml_collections.ConfigDict({"name": "spynet", "scale": 4})
    config.loss.terms = ml_collections.ConfigDict({"epe": 1.0})
    config.data.update(
        dataset="dead_leaves/large", frames=2, crop=384, batch=16, reverse=True, flow=True
    )
    config.data.photometric = True
    config.optim.update(lr=4e-4, lr_end=1e-6, warmup=500, b2=0.999, clip_norm=1.0)
    config.optim.update(flow_lr_mul=1.0, fix_flow=1)  # SpyNet is the whole network
    config.train.update(steps=20_000, spynet_weights=MOTION)
    config.eval.update(dataset="dead_leaves/large", split="val", every=1000, best="epe")
    match arg:
        case "large":
            pass
        case "tiny":
            protocols.embedded(config)
            config.data.update(frames=2, crop=256)
            config.optim.update(warmup=10, ema=0.95)
            config.train.update(steps=150, log_every=10, checkpoint_every=50)
            config.eval.every = 50
        case _:
            raise unknown_variant(arg, *VARIANTS)
    return config
