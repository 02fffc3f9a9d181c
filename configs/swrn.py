"""SWRN on REDS: the recipe of the AIM 2022 challenge entry, `configs/mobile.py:SWRN`.

    python -m jaxvsr.main --config=configs/swrn.py --workdir=W          # or :reds, the same
    python -m jaxvsr.main --config=configs/swrn.py:vimeo --workdir=W
    python -m jaxvsr.main --config=configs/swrn.py:tiny --workdir=W     # minutes on two cores

Published score: 27.92 dB / 0.77 on REDS' own validation clips 000-029, the mean over frames of
unrounded RGB (Lian and Lian, AIM 2022); not comparable with REDS4. 43,472 parameters.
"""

import ml_collections

from configs import mobile

VARIANTS = mobile.RECIPE_NAMES


def get_config(arg: str = "reds") -> ml_collections.ConfigDict:
    """The config of a variant: "reds", "vimeo" or "tiny", and perhaps ",vid4": a benchmark."""
    return mobile.get_config(f"SWRN,{arg}")
