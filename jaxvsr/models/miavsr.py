"""MIA-VSR: IIA-VSR whose blocks skip the tokens that hardly changed since the frame before.

Source: Zhou et al., "Video Super-Resolution Transformer with Masked Inter&Intra-Frame Attention",
CVPR 2024, section 3.3.
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.layers.gating import MaskPredictor, compute_kept, gate, in_turns
from jaxvsr.layers.window_block import BlockWeights, Windows, attention, mlp, refine
from jaxvsr.layers.windows import partition
from jaxvsr.models.iiavsr import IIAVSR, IIABlock


class MIABlock(IIABlock):
    """Masked intra & inter-frame attention block: a token that is not computed keeps its old value.

    The residual is always new: what is kept is the attention's and the MLP's contribution. The
    state holds, of the step before and without gradient, the normed tokens of the current frame
    and the attention's output (b, n, wh*ww, c), both in windows, and the MLP's (b, h, w, c).

    The share of the tokens that are computed, padding included, is sown as "keep_ratio"; outside
    training the mask (b, h, w) is sown as "mask".

    Attributes:
        use_mask: whether tokens are skipped at all.

    Source: section 3.3, equations 8 to 11.
    """

    use_mask: bool = True
    gating: str = "dense"
    threshold: float = 0.0
    keep_share: float = 0.0
    window_masks: bool = False

    @staticmethod
    def initial_state(x: jax.Array, window_size: tuple[int, int, int]) -> Any:
        """Zeros, never looked at: at a branch's start every token is computed."""
        windows = partition(x[:, None], (1, *window_size[1:]))
        windows = windows.reshape(-1, *windows.shape[2:])
        return windows, windows, windows

    @nn.compact
    def __call__(
        self, x: jax.Array, cond: Any, state: Any, first: jax.Array
    ) -> tuple[jax.Array, Any]:
        """As IIABlock's."""
        weights, windows = self.weights(x.shape[-1]), self.windows(x, cond)
        last_normed, *last = state
        mask = self.mask(weights.norm1.scale, windows.normed, last_normed, first, x.shape[0])
        if self.train:
            attn, hidden = refine_all(weights, windows, mask, *last)
        elif self.gating == "dense" or not self.use_mask:
            everything = (windows, mask, *last)
            attn, hidden = in_turns(lambda some: refine_all(weights, *some), everything)
        else:
            own = windows.inside[:, -mask.shape[1] :]  # padding is nowhere looked at
            kept = (mask[..., 0] > 0) & own
            refined = functools.partial(refine, weights)
            attn, hidden = compute_kept(refined, windows, kept, tuple(last))
        if self.use_mask and not self.is_initializing():
            self.sow("aux", "keep_ratio", mask.mean())
            if not self.train:
                self.sow("aux", "mask", self.merge(mask, x)[..., 0])
        x = self.merge(windows.x + windows.drop_attn * attn + hidden, x)
        return x, jax.lax.stop_gradient((windows.normed, attn, hidden))

    def mask(
        self, scale: jax.Array, normed: jax.Array, last: jax.Array, first: jax.Array, clips: int
    ) -> jax.Array:
        """Which tokens are computed.

        Args:
            scale: (c,) of the norm.
            normed, last: (b*n, tokens, c) tokens of this step and of the one before, normalised
                without the affine part; its offset is the same for both.
            first: () bool, whether there is no step before.
            clips: b.

        Returns:
            (b*n, tokens, 1) float32, zeros and ones.
        """
        change = jnp.abs(scale) * jnp.abs(normed - last)
        change = jax.lax.stop_gradient(change).reshape(clips, -1, *change.shape[1:])
        predictor = MaskPredictor(
            self.train, self.threshold, self.keep_share, self.window_masks, name="predictor"
        )
        mask = jnp.where(first | (not self.use_mask), 1.0, predictor(change))
        return mask.reshape(-1, *mask.shape[2:])


def refine_all(
    weights: BlockWeights,
    windows: Windows,
    mask: jax.Array,
    last_attn: jax.Array,
    last_hidden: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """`refine`, of which a dropped token takes the last values instead; differentiable."""
    attn = gate(mask, attention(weights, windows), last_attn)
    return attn, gate(mask, mlp(weights, windows, attn), last_hidden)


class MIAVSR(IIAVSR):
    """IIA-VSR with masked blocks.

    Attributes:
        use_mask: whether the predicted masks are obeyed; without, the function is IIA-VSR's.
    """

    use_mask: bool = True
    gating: str = "dense"
    threshold: float = 0.0
    keep_share: float = 0.0
    window_masks: bool = False

    block: ClassVar[type[IIABlock]] = MIABlock

    def make_block(self, train: bool) -> Callable[..., nn.Module]:
        return functools.partial(
            super().make_block(train),
            use_mask=self.use_mask,
            gating=self.gating,
            threshold=self.threshold,
            keep_share=self.keep_share,
            window_masks=self.window_masks,
        )
