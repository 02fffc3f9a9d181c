"""Names of BasicVSR++ in BasicSR (XPixelGroup/BasicSR, archs/basicvsrpp_arch.py)."""

from jaxvsr.weights.basicvsr import RESIDUAL_BLOCKS
from jaxvsr.weights.rules import Rules
from jaxvsr.weights.spynet import SPYNET

BASICVSRPP = Rules(
    names=(
        *SPYNET.names,
        (r"^conv_down_(\d)/", lambda m: f"feat_extract/{2 * int(m[1])}/"),
        (r"^feat_extract_reduced/", "feat_extract/4/"),
        *RESIDUAL_BLOCKS,
        (r"^(\w+_\d)/(backbone|deform_align)/", r"\2/\1/"),
        (r"/deform/", "/"),
        (r"conv_offset_(\d)/", lambda m: f"conv_offset/{2 * int(m[1])}/"),
        (r"^head/", ""),
        (r"/", "."),
    ),
    unused=r"^spynet\.(mean|std)$",
)
