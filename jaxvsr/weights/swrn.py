"""Names of SWRN in the official code (shermanlian/swrn, model/mobile_rrn.py)."""

from jaxvsr.weights.rules import Rules

SWRN = Rules(
    names=(
        (r"^cell/", ""),
        (r"trunk_(forward|backward)_(\d)/", r"recon_trunk_\1/layer_with_weights-\2/conv/"),
        (r"trunk_fusion_(\d)/", r"recon_trunk/layer_with_weights-\1/conv/"),
    ),
)
