"""The benchmarks of the literature: the words of a config's variant after its recipe.

    python -m jaxvsr.main --config=configs/miavsr.py:vimeo,vid4 --workdir=W --mode=eval
    python -m jaxvsr.main --config=configs/rvrt.py:001,reds4,crf25 --workdir=W --mode=eval
    python -m jaxvsr.main --config=configs/bicubic.py:vid4 --workdir=W --mode=eval
    python -m jaxvsr.main --config=configs/swrn.py:real --workdir=W         # or :tiny,real

Scores are comparable if the degradation of the data set, channel, border, frames and input are the
same; the table of scores lists them.
"""

from collections.abc import Sequence
from typing import Any

import ml_collections

from jaxvsr.config import unknown_variant

PROTOCOLS: dict[str, dict[str, Any]] = {
    # Training clips 000, 011, 015 and 020, all 100 frames, RGB.
    "reds4": {"dataset": "reds", "split": "reds4"},
    # The 30 validation clips, which the literature trains on: only for the official split ...
    "reds_official": {"dataset": "reds", "split": "val_official"},
    # ... as the mobile challenges and FANI's work log score them: outputs are not rounded.
    "reds30": {"dataset": "reds", "split": "val_official", "rounded": False},
    # The fourth frame of each of 7,824 septuplets, Y. VRT repeats the last frame, BasicVSR and
    # RVRT mirror the septuplet; MIA-VSR, IIA-VSR and PSRT do neither.
    "vimeo90k_t": {"dataset": "vimeo90k", "split": "test", "channel": "y", "frames": (3,)},
    "vimeo90k_t_mirror": {
        "dataset": "vimeo90k",
        "split": "test",
        "channel": "y",
        "frames": (3,),
        "input": "mirror",
    },
    "vimeo90k_t_repeat": {
        "dataset": "vimeo90k",
        "split": "test",
        "channel": "y",
        "frames": (3,),
        "input": "repeat",
    },
    # All frames of four clips, Y.
    "vid4": {"dataset": "test_sets/vid4", "split": "test", "channel": "y"},
    "vid4_bd": {"dataset": "test_sets/vid4_bd", "split": "test", "channel": "y"},
    # All frames of ten clips, BD, Y.
    "udm10": {"dataset": "test_sets/udm10_bd", "split": "test", "channel": "y"},
    # All frames of thirty clips, Y, a border left out.
    "spmcs30": {"dataset": "test_sets/spmcs30", "split": "test", "channel": "y", "crop": 8},
}
PLAIN = {"crop": 0, "frames": (), "input": "plain", "rounded": True}  # unless it says otherwise

# Inputs that are made while scoring: of the targets by one of the three kinds of BD, or of the
# data set's inputs, or after a kind of BD, by x264 at a constant rate factor.
DEGRADATIONS = {
    "bd": "bd",
    "duf": "duf",
    "tecogan": "tecogan",
    "crf18": "h264(crf=18)",
    "crf25": "h264(crf=25)",
    "crf35": "h264(crf=35)",
}
REAL = "real"  # training and evaluation on compressed video


def split(arg: str, recipes: Sequence[str]) -> tuple[str, str]:
    """Splits a variant into recipe and benchmark.

    Args:
        arg: "vimeo,vid4,crf25", "vimeo", or "real", which is "real" of the first recipe.
        recipes: of the config.
    """
    recipe, _, benchmark = arg.partition(",")
    return (recipes[0], REAL) if recipe == REAL else (recipe, benchmark)


def embedded(config: ml_collections.ConfigDict) -> None:
    """Changes training, in small samples, and evaluation to the embedded data set."""
    config.data.update(dataset="dead_leaves/small", frames=4, crop=64, batch=4, workers=1)
    config.eval.update(dataset="dead_leaves/small", split="val")


def apply(config: ml_collections.ConfigDict, benchmark: str) -> None:
    """Changes the evaluation to the protocol of a benchmark.

    Args:
        config: of a recipe.
        benchmark: words with commas between them, "" for no change: a key of PROTOCOLS, keys of
            DEGRADATIONS ("tecogan,crf25"), or "real". This trains on videos of ordinary quality,
            blurred, noisy and compressed by x264 at CRF 18 to 40, and scores inputs compressed at
            CRF 28.

    Raises:
        ValueError: an unknown word.
    """
    degradations = []
    for word in filter(None, benchmark.split(",")):
        if word == REAL:
            config.data.degradation, config.eval.degradation = "compressed", "h264(crf=28)"
        elif word in DEGRADATIONS:
            degradations.append(DEGRADATIONS[word])
        elif word in PROTOCOLS:
            config.eval.update({**PLAIN, **PROTOCOLS[word]})
        else:
            raise unknown_variant(word, *PROTOCOLS, *DEGRADATIONS, REAL)
    if degradations:
        config.eval.degradation = ", ".join(degradations)
