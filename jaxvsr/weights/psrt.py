"""Names of PSRT-recurrent in the official code (XPixelGroup/RethinkVSRAlignment, archs/)."""

from jaxvsr.weights.rules import Rules
from jaxvsr.weights.spynet import SPYNET

PSRT = Rules(
    names=(
        *SPYNET.names,
        (r"^(backward_\d|forward_\d)/", r"patch_align.\1."),
        (r"group_(\d+)/block_(\d+)/", r"layers.\1.residual_group.blocks.\2."),
        (r"group_(\d+)/", r"layers.\1."),
        (r"patch_embed/", "patch_embed.norm."),
        (r"^head/", ""),
        (r"scale$", "weight"),
        (r"/", "."),
    ),
    # The official code creates the last three in every branch, but never calls them.
    unused=r"relative_position_index$|^spynet\.(mean|std)$"
    r"|^patch_align\.(backward|forward)_[12]"
    r"\.(conv_first|conv_first_feat|conv_before_upsample)\.(weight|bias)$",
)
