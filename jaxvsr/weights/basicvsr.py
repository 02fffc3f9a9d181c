"""Names of BasicVSR in BasicSR (XPixelGroup/BasicSR, archs/basicvsr_arch.py)."""

from jaxvsr.weights.rules import Rules
from jaxvsr.weights.spynet import SPYNET

# Names of a stack of residual blocks inside its parent module.
RESIDUAL_BLOCKS = (
    (r"/conv_in/", "/main/0/"),
    (r"/block_(\d+)/", r"/main/2/\1/"),
)
BASICVSR = Rules(
    names=(
        *SPYNET.names,
        *RESIDUAL_BLOCKS,
        (r"^(backward|forward)/trunk/", r"\1_trunk/"),
        (r"^head/", ""),
        (r"/", "."),
    ),
    unused=r"^spynet\.(mean|std)$",
)
