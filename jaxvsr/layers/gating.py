"""Masks as static-shape gated computation: which tokens are computed, which keep their old value.

A mask is 1 where a token is computed. The dense form computes every token and selects.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

TEMPERATURE = 2 / 3  # of the relaxed Bernoulli variable


class MaskPredictor(nn.Module):
    """Decides from the change of each token since the frame before whether it is computed anew.

    Outside training the mask is hard. In training it is hard forward and the gradient is that of
    the relaxed mask (straight-through), with Gumbel noise where an rng named "gumbel" is given.

    Attributes:
        train: straight-through or hard.

    Source: Zhou et al., "Video Super-Resolution Transformer with Masked Inter&Intra-Frame
        Attention" (MIA-VSR), section 3.3.
    """

    train: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, change: jax.Array) -> jax.Array:
        """change (..., c), absolute differences -> mask (..., 1) float32 of zeros and ones."""
        # In float32: a rounded logit would flip tokens near the threshold.
        logit = nn.Dense(1, kernel_init=nn.initializers.normal(0.02), name="linear")(
            change.astype(jnp.float32)
        )
        if self.train and self.has_rng("gumbel"):
            noise = jax.random.gumbel(self.make_rng("gumbel"), (2, *logit.shape), logit.dtype)
            logit = logit + noise[0] - noise[1]
        hard = (logit >= 0).astype(jnp.float32)
        if not self.train:
            return hard
        soft = nn.sigmoid(logit / TEMPERATURE)
        return hard + (soft - jax.lax.stop_gradient(soft))


def gate(mask: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """Takes `new` where the mask is one and `old` where it is zero; differentiable in the mask.

    Args:
        mask: (..., 1), zeros and ones.
        new, old: (..., c).

    Returns:
        (..., c) in the dtype of `new`: since the mask is exactly 0 or 1, exactly `new` or `old`.
    """
    mask = mask.astype(new.dtype)
    return mask * new + (1 - mask) * old
