"""What training minimises."""

from typing import Any

import jax
import jax.numpy as jnp


def charbonnier(sr: jax.Array, gt: jax.Array, eps: float = 1e-12) -> jax.Array:
    """The smooth L1 loss of each frame: mean of sqrt((sr - gt)^2 + eps).

    Args:
        sr, gt: (b, t, h, w, c), any range; `eps` is in its square.
        eps: what rounds the tip off.

    Returns:
        (b, t) float32.

    Source: Lai et al., "Deep Laplacian Pyramid Networks", section 3.3.
    """
    difference = sr.astype(jnp.float32) - gt.astype(jnp.float32)
    return jnp.sqrt(difference**2 + eps).mean((2, 3, 4))


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
