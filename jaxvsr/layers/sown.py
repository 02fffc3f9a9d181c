"""What the modules of a model sow into the collection "aux": masks, kept fractions, flows."""

from typing import Any

import jax
import jax.numpy as jnp


def sown(aux: Any, name: str) -> list[jax.Array]:
    """What the modules of a model sowed into "aux" under a name, one array a module."""
    return [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(aux)
        if any(getattr(key, "key", None) == name for key in path)
    ]


def keep_ratio(aux: Any) -> jax.Array:
    """The mean share of computed tokens over blocks and over all frames but a branch's first,
    of which every token is computed.

    Args:
        aux: what a model sowed; "keep_ratio" of a block is an array (t, b), of several (t, ..., b).

    Returns:
        () float32; 1 for a model without masks.

    Source: Zhou et al., MIA-VSR, section 3.3, equation 12.
    """
    shares = sown(aux, "keep_ratio")
    frames = shares[0].shape[0] if shares else 1
    if frames == 1:
        return jnp.ones(())
    by_block = [share.mean(-1).reshape(frames, -1) for share in shares]
    return (jnp.concatenate(by_block, axis=1).mean(1).sum() - 1) / (frames - 1)
