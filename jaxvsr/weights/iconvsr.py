"""Names of IconVSR in BasicSR (XPixelGroup/BasicSR, archs/basicvsr_arch.py, edvr_arch.py)."""

from jaxvsr.weights.basicvsr import RESIDUAL_BLOCKS
from jaxvsr.weights.rules import Rules
from jaxvsr.weights.spynet import SPYNET

ICONVSR = Rules(
    names=(
        *SPYNET.names,
        *RESIDUAL_BLOCKS,
        (r"^(backward|forward)/(trunk|fusion)/", r"\1_\2/"),
        (r"/deform/", "/"),
        (r"feature_extraction_(\d)/", r"feature_extraction/\1/"),
        (r"/(offset_conv\d|dcn_pack|feat_conv)_(l\d)/", r"/\1/\2/"),
        (r"^head/", ""),
        (r"/", "."),
    ),
    unused=r"^spynet\.(mean|std)$",
)
