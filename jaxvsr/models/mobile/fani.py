"""FANI and the networks of its ablation (MVSR): three input frames, no recurrence.

Source: the public release of FANI and its author's work log, where FANI is MVSR_13.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvsr.models.mobile import blocks
from jaxvsr.models.mobile.base import PEAK, Windowed
from jaxvsr.models.mobile.blocks import Kernels
from jaxvsr.models.mobile.reparam import Convs


class FANI(Windowed):
    """FANI: alignment by attention over colors, distillation blocks, and a last convolution.

    In the official code, the logits of the alignment are sums over all pixels of products of values
    in 0..255. The softmax is then one-hot and has no gradient, and the neighboring frames have no
    effect. `scaled` corrects this.

    Attributes:
        num_blocks: number of distillation blocks.
        align: how neighboring frames are used: "attention" with keys and values from the current
            frame, "conv" a 1x1 convolution of all three frames, "concat" plain concatenation,
            "none" not at all.
        align_project: whether a 1x1 convolution follows the attention.
        scaled: whether the attention's logits are divided by 255**2 times the number of pixels.
        shallow: first convolution, "separable" or "conv".
        stage_dim, stage_kernels, stage_depthwise, stage_fc: `features`, `kernels`, `depthwise` and
            `fc` of `blocks.PartialFeatures`.
        merge, fuse: as in `blocks.Distillation`.
        attention: attention of a block: "pixel", "channel" or "none".
        attention_dim, attention_kernels, attention_depthwise, attention_fc: `features`, `kernels`,
            `depthwise` and `fc` of `blocks.PixelAttention`.
        tail: last convolution, "conv" without a bias or "separable".
    """

    num_blocks: int = 4
    align: Literal["attention", "conv", "concat", "none"] = "attention"
    align_project: bool = False
    scaled: bool = False
    shallow: Literal["separable", "conv"] = "separable"
    stage_dim: int = 8
    stage_kernels: Kernels = ((5, 1), (5, 3))
    stage_depthwise: bool = False
    stage_fc: bool = True
    merge: Literal["reduce", "concat", "refine"] = "reduce"
    fuse: bool = False
    attention: Literal["pixel", "channel", "none"] = "pixel"
    attention_dim: int = 8
    attention_kernels: Kernels = ((3, 1),)
    attention_depthwise: bool = False
    attention_fc: bool = True
    tail: Literal["conv", "separable"] = "conv"

    @nn.compact
    def residual(
        self, frames: Sequence[Float[Array, "b *t h w 3"]], train: bool
    ) -> Float[Array, "b *t h w _"]:
        """Predicts the residual image; see `Windowed.residual`."""
        convs = self.convs
        x = self._aligned(frames)
        if self.shallow == "separable":
            x = convs.separable(x, self.dim, name="shallow")
        else:
            x = convs(x, self.dim, name="shallow")
        for i in range(self.num_blocks):
            block = blocks.Distillation(
                convs=convs,
                stage=functools.partial(
                    blocks.PartialFeatures,
                    convs=convs,
                    features=self.stage_dim,
                    kernels=self.stage_kernels,
                    depthwise=self.stage_depthwise,
                    fc=self.stage_fc,
                ),
                attention=self._attention(),
                merge=self.merge,
                fuse=self.fuse,
                name=f"block_{i}",
            )
            x = block(x, train)
        features = 3 * self.scale**2
        if self.tail == "separable":
            return convs.separable(x, features, name="tail")
        return convs(x, features, bias=False, name="tail")

    def _aligned(self, frames: Sequence[Array]) -> Array:
        before, current, after = frames
        match self.align:
            case "none":
                return current
            case "concat":
                return jnp.concatenate(frames, axis=-1)
            case "conv":
                return self.convs(jnp.concatenate(frames, axis=-1), self.dim, 1, name="align")
        align = ColorAttention(self.convs, self.align_project, self.scaled, name="align")
        return align(current, jnp.concatenate([before, after], axis=-1))

    def _attention(self) -> Callable[..., nn.Module] | None:
        match self.attention:
            case "none":
                return None
            case "channel":
                return functools.partial(blocks.ChannelAttention, self.convs, self.dim)
        return functools.partial(
            blocks.PixelAttention,
            convs=self.convs,
            features=self.attention_dim,
            kernels=self.attention_kernels,
            depthwise=self.attention_depthwise,
            fc=self.attention_fc,
        )


class ColorAttention(nn.Module):
    """AFA: attention over the color channels of the current frame, with queries from neighbors.

    Attributes:
        convs: factory of convolutions.
        project: whether a 1x1 convolution follows.
        scaled: whether logits are means over pixels of products of values in [0, 1].
    """

    convs: Convs
    project: bool
    scaled: bool

    @nn.compact
    def __call__(
        self, current: Float[Array, "b t h w 3"], neighbors: Float[Array, "b t h w 6"]
    ) -> Float[Array, "b t h w 3"]:
        """Aligns.

        Args:
            current: (b, t, h, w, 3) in 0..255.
            neighbors: (b, t, h, w, 6), the previous and the next frame.

        Returns:
            (b, t, h, w, 3).
        """
        reference = self.convs(neighbors, 1, name="reference")
        query = self.convs(reference, 3, name="query")
        key = self.convs(current, 3, name="key")
        value = self.convs(current, 3, name="value")
        product = functools.partial(
            jnp.einsum, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
        )
        logits = product("bthwi,bthwj->btij", key, query)
        self.sow("intermediates", "logits", logits / 3**0.5)
        # The logits are so large that a compiler which computes a quotient twice, with different
        # rounding, would find it unequal to its maximum; the one-hot softmax would get a gradient.
        logits = logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True))
        pixels = current.shape[-3] * current.shape[-2]
        weights = nn.softmax(logits / (3**0.5 * (pixels * PEAK**2 if self.scaled else 1)))
        y = product("bthwi,btij->bthwj", value, weights).astype(current.dtype)
        if self.project:
            y = self.convs(y, 3, 1, name="project")
        aligned = current + y
        self.sow("intermediates", "aligned", aligned)
        return aligned
