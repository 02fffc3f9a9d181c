"""SWRN on REDS: the recipe of the AIM 2022 challenge entry.

    python -m jaxvsr.main --config=configs/swrn.py --workdir=W          # or :reds, the same
    python -m jaxvsr.main --config=configs/swrn.py:vimeo --workdir=W
    python -m jaxvsr.main --config=configs/swrn.py:tiny --workdir=W     # minutes on two cores

Published score: 27.92 dB / 0.77 on REDS' own validation clips 000-029, the mean over frames of
unrounded RGB (Lian and Lian, AIM 2022); not comparable with REDS4. 43,472 parameters.
"""

import ml_collections

from configs import protocols
from jaxvsr.config import defaults, unknown_variant


def get_config(arg: str = "reds") -> ml_collections.ConfigDict:
    """The config of a variant: "reds", "vimeo" or "tiny", and perhaps ",vid4": a benchmark."""
    recipe, _, benchmark = arg.partition(",")
    config = defaults()
    config.model = ml_collections.ConfigDict(
        {"name": "swrn", "dim": 16, "num_blocks": 3, "scale": 4, "dtype": "float32", "unroll": 1}
    )
    config.data.frames = 10
    config.data.batch = 16
    # Flips and rotations by 90 degrees are published; flips and transposition are the same group.
    config.optim.lr = 1e-3
    config.optim.lr_steps = ((40_000, 5e-4), (100_000, 2.5e-4), (150_000, 1e-4), (200_000, 5e-5))
    config.optim.b2 = 0.999
    config.optim.eps = 1e-7
    config.optim.ema = 0.0
    config.loss.eps = 1e-6
    config.loss.peak = 255.0
    config.loss.sum_frames = True
    config.train.steps = 250_000
    match recipe:
        case "reds":
            pass
        case "vimeo":
            config.data.dataset, config.data.frames = "vimeo90k", 7
            protocols.apply(config, "vimeo90k_t")
        case "tiny":
            protocols.embedded(config)
            config.eval.every = 500
            config.optim.lr_steps = ()
            config.optim.lr_end = 1e-5
            config.train.update(steps=2000, log_every=50, checkpoint_every=500)
        case _:
            raise unknown_variant(recipe, "reds", "vimeo", "tiny")
    protocols.apply(config, benchmark)
    return config
