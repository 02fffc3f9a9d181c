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


def cost_of_still_tokens(aux: Any, still_change: float) -> Float[Array, ""]:
    """Mean cost of computed tokens in training, over blocks, frames and tokens.

    A token that did not change since the previous frame costs 1, one whose mean change exceeds
    `still_change` little: exp(-(change / still_change)^2). Dropped tokens cost nothing.

    Args:
        aux: the collection; "kept" and "change" are arrays (t, ..., b, n, tokens) per block or
            stack; "kept" is 0 in the first frame of each branch, which is left out.
        still_change: > 0.

    Returns:
        () float32 in [0, 1]; 0 for a model without masks.
    """
    pairs = zip(sown(aux, "kept"), sown(aux, "change"), strict=True)
    costs = [
        (kept * jnp.exp(-((change / still_change) ** 2))).mean((-3, -2, -1)).sum(0).ravel()
        / (len(kept) - 1)
        for kept, change in pairs
        if len(kept) > 1
    ]
    return jnp.concatenate(costs).mean() if costs else jnp.zeros(())


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
