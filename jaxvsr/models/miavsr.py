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
from jax.typing import ArrayLike

from jaxvsr.layers.gating import MaskPredictor, compute_kept, gate, in_turns
from jaxvsr.layers.window_block import BlockWeights, Windows, attention, mlp, refine
from jaxvsr.layers.windows import count, partition
from jaxvsr.models.iiavsr import IIAVSR, IIABlock


class MIABlock(IIABlock):
    """Masked intra & inter-frame attention block: a token that is not computed keeps its old value.

    The residual is always new: what is kept is the attention's and the MLP's contribution. The
    state holds, of the step before and without gradient, the normalised tokens of the current
    frame and the outputs of the attention and the MLP, all in windows (b*n, wh*ww, c).

    Each clip's share (b,) of the tokens that are computed, padding included, is sown as
    "keep_ratio"; outside training the mask (b, h, w) is sown as "mask".

    Attributes:
        use_mask, gating, threshold, keep_share, window_masks: as MIAVSR's.

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
        self, x: jax.Array, cond: Any, state: Any, first: jax.Array, drop_path: ArrayLike = 0.0
    ) -> tuple[jax.Array, Any]:
        """As IIABlock's."""
        weights, windows = self.weights(x.shape[-1]), self.windows(x, cond, drop_path)
        last_normed, *last = state
        mask = self.mask(weights.norm1.scale, windows.normed, last_normed, first, x.shape)
        if self.train or self.is_initializing():
            attn, hidden = refine_all(weights, (windows, mask, *last))
        elif self.gating == "dense" or not self.use_mask:
            attn, hidden = in_turns(refine_all, weights, (windows, mask, *last))
        else:
            own = windows.inside[:, -mask.shape[1] :]  # what padding would find, nobody looks at
            kept = (mask[..., 0] > 0) & own
            attn, hidden = compute_kept(refine, weights, windows, kept, tuple(last))
        if self.use_mask and not self.is_initializing():
            by_clip = mask.reshape(x.shape[0], -1, *mask.shape[1:])[:, : self.windows_of(x.shape)]
            self.sow("aux", "keep_ratio", by_clip.mean((1, 2, 3)))
            if not self.train:
                self.sow("aux", "mask", self.merge(mask, x)[..., 0])
        x = self.merge(windows.x + windows.drop_attn * attn + hidden, x)
        return x, jax.lax.stop_gradient((windows.normed, attn, hidden))

    def mask(
        self,
        scale: jax.Array,
        normed: jax.Array,
        last: jax.Array,
        first: jax.Array,
        shape: tuple[int, ...],
    ) -> jax.Array:
        """Which tokens are computed.

        Args:
            scale: (c,) of the norm.
            normed, last: (b*n, tokens, c) tokens of this step and of the one before, normalised
                without the affine part; its offset is the same for both.
            first: () bool, whether there is no step before.
            shape: (b, h, w, c) of the frames.

        Returns:
            (b*n, tokens, 1) float32, zeros and ones.
        """
        change = jnp.abs(scale) * jnp.abs(normed - last)
        change = jax.lax.stop_gradient(change).reshape(shape[0], -1, *change.shape[1:])
        predictor = MaskPredictor(
            self.train, self.threshold, self.keep_share, self.window_masks, name="predictor"
        )
        mask = predictor(change, self.windows_of(shape))
        mask = jnp.where(first | (not self.use_mask), 1.0, mask)
        return mask.reshape(-1, *mask.shape[2:])

    def windows_of(self, shape: tuple[int, ...]) -> int:
        """How many windows a frame has, of clips of shape (b, h, w, c)."""
        _, wh, ww = self.window_size
        return count((1, shape[1], shape[2]), (1, wh, ww))


def refine_all(
    weights: BlockWeights, inputs: tuple[Windows, jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """`refine`, of which a dropped token takes the last values instead; differentiable.

    Args:
        weights: of the block.
        inputs: windows, their mask (w, tokens, 1), the last outputs (w, tokens, c) of the
            attention and the MLP.
    """
    windows, mask, last_attn, last_hidden = inputs
    attn = gate(mask, attention(weights, windows), last_attn)
    return attn, gate(mask, mlp(weights, windows, attn), last_hidden)


class MIAVSR(IIAVSR):
    """IIA-VSR with masked blocks.

    Attributes:
        use_mask: whether the predicted masks are obeyed; without, the function is IIA-VSR's.
        gating: "dense" computes every token and then selects; "bucketed" computes kept tokens
            alone, with the same result, and counts outside training.
        threshold: of the masks' logits, outside training; the published one is 0. Above it less
            is computed, without training anew.
        keep_share: 0, or the share of a clip's tokens that each block computes, those of the
            highest logits, in place of all above the threshold.
        window_masks: whether a window's tokens are computed all or none.

    Raises:
        ValueError: a field that cannot be.
    """

    use_mask: bool = True
    gating: str = "dense"
    threshold: float = 0.0
    keep_share: float = 0.0
    window_masks: bool = False

    block: ClassVar[type[IIABlock]] = MIABlock

    def __post_init__(self) -> None:
        if self.gating not in ("dense", "bucketed"):
            raise ValueError(f"gating={self.gating!r} is neither 'dense' nor 'bucketed'")
        if not 0 <= self.keep_share <= 1:
            raise ValueError(f"keep_share={self.keep_share} is no share: 0 to 1")
        super().__post_init__()

    def make_block(self, train: bool) -> Callable[..., nn.Module]:
        return functools.partial(
            super().make_block(train),
            use_mask=self.use_mask,
            gating=self.gating,
            threshold=self.threshold,
            keep_share=self.keep_share,
            window_masks=self.window_masks,
        )
