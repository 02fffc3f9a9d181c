"""SWRN on REDS: the recipe of the AIM 2022 challenge entry (`configs/mobile.py:SWRN`).

    python -m jaxvsr.main --config=configs/swrn.py --workdir=W          # or :reds, the same
    python -m jaxvsr.main --config=configs/swrn.py:vimeo --workdir=W
    python -m jaxvsr.main --config=configs/swrn.py:tiny --workdir=W     # minutes on two cores

Score of the paper (Lian and Lian, AIM 2022): 27.92 dB / 0.77 on REDS' official validation clips
000-029, mean over frames of unrounded RGB (`reds30`), not comparable with REDS4. 43,472 parameters.
"""

import ml_collections

from configs import mobile

VARIANTS = mobile.RECIPE_NAMES


def get_config(arg: str = "reds") -> ml_collections.ConfigDict:
    """Returns a variant: "reds", "vimeo" or "tiny", and optionally a benchmark: "vimeo,vid4"."""
    return mobile.get_config(f"SWRN,{arg}")
