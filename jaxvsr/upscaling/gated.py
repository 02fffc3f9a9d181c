"""Gated computation of masked networks where it is faster, measured on the first frames."""

import flax.linen as nn
import numpy as np

from jaxvsr.upscaling.engine import Engine
from jaxvsr.video.reading import Say

PAYS = 0.95  # relative time below which gated computation is used


def gated_form(model: nn.Module) -> nn.Module | None:
    """The network with gated computation; None if it has no masks, or is gated already."""
    if not getattr(model, "use_mask", False) or getattr(model, "gating", "") != "dense":
        return None
    return model.clone(gating="bucketed")


def is_faster(gated: Engine, dense: Engine, lq: np.ndarray, say: Say) -> bool:
    """Compares the time of two engines for frames.

    Args:
        gated, dense: of the same network.
        lq: (t, h, w, 3), the first chunk.
        say: receives a line for the user.
    """
    if gated.tile != dense.tile:  # the gated one needs more memory
        return False
    ratio = gated.seconds(lq) / dense.seconds(lq)
    pays = ratio < PAYS
    say(
        f"masks: gated computation takes {ratio:.2f} of the dense time "
        f"and is {'' if pays else 'not '}used"
    )
    return pays
