"""Names of MobileRRN and FANI in their official code.

MobileRRN: MediaTek-NeuroPilot/mai22-real-time-video-sr, model/mobile_rrn.py. FANI:
kyrie2to11/FANI, model/fani.py.
"""

import collections
import re
from collections.abc import Iterable

from jaxvsr.weights.rules import Rules

MOBILE_RRN = Rules(
    names=(
        (r"^cell/", ""),
        (r"block_(\d+)_(conv\d)/", r"recon_trunk/layer_with_weights-\1/\2/"),
    ),
)

# Our names of layers, in the order in which the official code creates them.
_MADE = (
    *("align", "shallow_pointwise", "shallow_depthwise", "shallow", "block"),
    *("tail_pointwise", "tail_depthwise", "tail"),
    *("reference", "key", "value", "query"),
    *("stage", "reduce", "refine", "fuse", "attention"),
    *("fc", "conv", "expand", "norm", "project", "gate"),
)
_LEAVES = {"mean": "moving_mean", "var": "moving_variance", "scale": "gamma"}


def numbered(places: Iterable[str], official: Iterable[str]) -> Rules:
    """Makes the table of FANI and MVSR, whose layers Keras numbers.

    Args:
        places: paths of leaves in our tree, such as "block_0/fuse/kernel".
        official: official names, with layers as in files ("layer_with_weights-12") or as in a
            running program ("conv2d_10", "batch_normalization_2").

    Returns:
        The table of names.
    """
    in_files = any(name.startswith("layer_with_weights-") for name in official)
    order = list(_MADE)
    if in_files:  # numbered by distance from the output, which moves one layer
        order.insert(order.index("key"), order.pop(order.index("query")))

    def rank(layer: str) -> list[tuple[int, int]]:
        parts = re.findall(r"([a-z_]+?)(?:_(\d+))?(?:/|$)", layer)
        return [(order.index(kind), int(number or 0)) for kind, number in parts]

    layers = sorted({re.sub(r"^batch_stats/|/\w+$", "", place) for place in places}, key=rank)
    names: dict[str, str] = {}
    counts: collections.Counter[str] = collections.Counter()
    for i, layer in enumerate(layers):
        kind = "batch_normalization" if layer.endswith("/norm") else "conv2d"
        program = f"{kind}_{counts[kind]}" if counts[kind] else kind
        names[layer] = f"layer_with_weights-{i}" if in_files else program
        counts[kind] += 1

    def name(match: re.Match) -> str:
        layer, leaf = match[1], match[2]
        shift = layer.endswith("/norm") and leaf == "bias"
        return f"{names[layer]}/{'beta' if shift else _LEAVES.get(leaf, leaf)}"

    return Rules(names=((r"^(?:batch_stats/)?(.+)/(\w+)$", name),))
