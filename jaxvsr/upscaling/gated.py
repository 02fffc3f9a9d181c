"""Gated computation of masked networks where it is faster, measured on the first inputs."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from jaxvsr.console import work_seconds
from jaxvsr.video.reading import Say

Program = Callable[..., Any]

PAYS = 0.95  # relative time below which gated computation is used


def gated_form(model: nn.Module) -> nn.Module | None:
    """The network with gated computation; None if it has no masks, or is gated already."""
    if not getattr(model, "use_mask", False) or getattr(model, "gating", "") != "dense":
        return None
    return model.clone(gating="bucketed")


class FasterProgram:
    """A dense program, and from the second call on the gated one if that takes less time.

    A video of one chunk needs one program only, so the gated one is compiled at the second call,
    which computes the same inputs by both.
    """

    def __init__(self, dense: Program, compile_gated: Callable[[], Program | None], say: Say):
        """Starts with the dense program.

        Args:
            dense: the program.
            compile_gated: makes the program of equal results; None: it needs too much memory.
            say: receives a line for the user.
        """
        self._program, self._compile_gated, self._say, self._calls = dense, compile_gated, say, 0

    def __call__(self, *args: Any) -> Any:
        """Computes by the chosen program."""
        self._calls += 1
        gated = self._compile_gated() if self._calls == 2 else None
        return self._program(*args) if gated is None else self._compare(gated, args)

    def _compare(self, gated: Program, args: tuple) -> Any:
        """Chooses the faster program, and returns its outputs."""
        jax.block_until_ready(gated(*args))  # the first call allocates memory
        outputs, seconds = [], []
        for program in (gated, self._program):
            begin = work_seconds()
            outputs.append(jax.block_until_ready(program(*args)))
            seconds.append(work_seconds() - begin)
        ratio = seconds[0] / seconds[1]
        pays = ratio < PAYS
        self._say(
            f"masks: gated computation takes {ratio:.2f} of the dense time "
            f"and is {'' if pays else 'not '}used from here on"
        )
        if pays:
            self._program = gated
        return outputs[0 if pays else 1]
