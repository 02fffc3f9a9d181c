"""Bicubic enlargement, the baseline that needs neither training nor weights.

    python -m jaxvsr.main --config=configs/bicubic.py:vid4 --workdir=W --mode=eval

The variant is any benchmark of configs/protocols.py; "tiny" is the embedded data set. Known scores:
Vid4 23.78 dB / 0.6347 (Y, BI), its clip calendar 20.3945 dB / 0.5720, in RGB 18.9009 / 0.5477.
"""

import ml_collections

from configs import protocols
from jaxvsr.config import defaults

VARIANTS = (*protocols.PROTOCOLS, "tiny")


def get_config(arg: str = "vid4") -> ml_collections.ConfigDict:
    """The config of a benchmark, or of "tiny"."""
    config = defaults()
    config.model = ml_collections.ConfigDict({"name": "bicubic", "scale": 4, "dtype": "float32"})
    if arg == "tiny":
        protocols.embedded(config)
    else:
        protocols.apply(config, arg)
    return config
