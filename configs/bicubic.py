"""Bicubic upsampling, the baseline without training and weights.

    python -m jaxvsr.main --config=configs/bicubic.py:vid4 --workdir=W --mode=eval

The variants are the benchmarks of configs/protocols.py, also of other inputs ("vid4,crf25"), and
"tiny", the embedded data set. Known scores, BI: Vid4 23.78 dB / 0.6347, Y; its clip calendar
20.3945 dB / 0.5720, Y, and 18.9009 dB / 0.5477, RGB.
"""

import ml_collections

from configs import protocols
from jaxvsr.config import defaults

VARIANTS = (*protocols.PROTOCOLS, "tiny")


def get_config(arg: str = "vid4") -> ml_collections.ConfigDict:
    """Returns the config of a benchmark or of "tiny"."""
    config = defaults()
    config.model = ml_collections.ConfigDict({"name": "bicubic", "scale": 4, "dtype": "float32"})
    if arg == "tiny":
        protocols.embedded(config)
    else:
        protocols.apply(config, arg)
    return config
