"""PSRT-recurrent: aligned frames are refined together, each looking at all of them.

Source: Shi et al., "Rethinking Alignment in Video Super-Resolution Transformers", NeurIPS 2022.
IIA-VSR (iiavsr.py) refines the current frame only; the recurrence, patch alignment, SpyNet and the
head are the same.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxvsr.models.iiavsr import IIAVSR, IIABlock, PropagationCell


class PSRTBlock(IIABlock):
    """Multi-frame self-attention block: in windows over three frames, every token asks.

    It refines frames (b, 3, h, w, c), and looks at no others.
    """

    query_frames: ClassVar[int] = 3


class PSRTCell(PropagationCell):
    """One step of a branch: [one step before, current, two steps before] are refined together."""

    def stack(self, step: jax.Array, current: jax.Array, n1: jax.Array, n2: jax.Array) -> jax.Array:
        """The current frame and the aligned ones, each (b, h, w, c) -> (b, 3, h, w, c)."""
        # At the second step n2 is the zeros that the recurrence starts with, as published.
        n1, n2 = jnp.where(step == 0, current, n1), jnp.where(step == 0, current, n2)
        return jnp.stack([n1, current, n2], axis=1)

    def split(self, frames: jax.Array) -> tuple[jax.Array, None]:
        """The stack (b, 3, h, w, c) -> all of it is refined, nothing else is looked at."""
        return frames, None

    def current(self, x: jax.Array) -> jax.Array:
        """(b, 3, h, w, c) -> (b, h, w, c)."""
        return x[:, 1]


class PSRT(IIAVSR):
    """IIA-VSR's four recurrent branches, of blocks and cells in which all three frames are refined.

    Attributes: IIAVSR's; the published network has three groups.
    """

    depths: tuple[int, ...] = (6, 6, 6)
    num_heads: tuple[int, ...] = (6, 6, 6)

    block: ClassVar[type[IIABlock]] = PSRTBlock
    cell: ClassVar[type[PropagationCell]] = PSRTCell
