"""Names of SpyNet in BasicSR (XPixelGroup/BasicSR, archs/spynet_arch.py)."""

from jaxvsr.weights.rules import Rules

SPYNET = Rules(
    names=(
        (
            r"level_(\d)/conv_(\d)/",
            lambda m: f"basic_module.{m[1]}.basic_module.{2 * int(m[2])}.",
        ),
        (r"kernel$", "weight"),
    ),
    unused=r"^(mean|std)$",
)
