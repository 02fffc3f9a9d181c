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

from jaxvsr.layers.blocks import DropPath
from jaxvsr.layers.gating import MaskPredictor, gate
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

    @staticmethod
    def initial_state(x: jax.Array, window_size: tuple[int, int, int]) -> Any:
        """Zeros, never looked at: at a branch's start every token is computed."""
        windows = partition(x[:, None], (1, *window_size[1:]))
        return windows, windows, x

    @nn.compact
    def __call__(
        self, x: jax.Array, cond: jax.Array, state: Any, first: jax.Array
    ) -> tuple[jax.Array, Any]:
        """As IIABlock's."""
        last_tokens, last_attn, last_hidden = state
        size = x.shape[1], x.shape[2]
        drop_path = DropPath(self.drop_path)
        tokens = self.tokens(x, cond)
        current = jax.lax.stop_gradient(tokens[:, :, -last_tokens.shape[2] :])

        mask = MaskPredictor(self.train, name="predictor")(jnp.abs(current - last_tokens))
        mask = jnp.where(first | (not self.use_mask), 1.0, mask)
        attn = gate(mask, self.attention(tokens, size), last_attn)
        x = x + drop_path(self.merge(attn, size))
        frame_mask = self.merge(mask, size)
        hidden = gate(frame_mask, drop_path(self.mlp(x)), last_hidden)
        x = x + hidden

        if self.use_mask and not self.is_initializing():
            self.sow("aux", "keep_ratio", mask.mean())
            if not self.train:
                self.sow("aux", "mask", frame_mask[..., 0])
        return x, (current, *jax.lax.stop_gradient((attn, hidden)))


class MIAVSR(IIAVSR):
    """IIA-VSR with masked blocks.

    Attributes:
        use_mask: whether the predicted masks are obeyed; without, the function is IIA-VSR's.
    """

    use_mask: bool = True

    block: ClassVar[type[IIABlock]] = MIABlock

    def make_block(self, train: bool) -> Callable[..., nn.Module]:
        return functools.partial(super().make_block(train), use_mask=self.use_mask)
