"""Values that modules sow into the collection "aux": masks, keep ratios, flows."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def sown(aux: Any, name: str) -> list[jax.Array]:
    """Values sown under a name, one array per module."""
    return [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(aux)
        if any(getattr(key, "key", None) == name for key in path)
    ]


def keep_ratio(aux: Any) -> Float[Array, ""]:
    """Mean fraction of computed tokens, over blocks and frames.

    The first frame of each branch is left out, since all of its tokens are computed.

    Args:
        aux: the collection; "keep_ratio" is an array (t, b) per block, or (t, ..., b) per stack.

    Returns:
        () float32 in [0, 1]; 1 for a model without masks.

    Source: Zhou et al., MIA-VSR, section 3.3, equation 12.
    """
    ratios = sown(aux, "keep_ratio")
    frames = ratios[0].shape[0] if ratios else 1
    if frames == 1:
        return jnp.ones(())
    by_block = [ratio.mean(-1).reshape(frames, -1) for ratio in ratios]
    return (jnp.concatenate(by_block, axis=1).mean(1).sum() - 1) / (frames - 1)
