"""FANI, and every network of its ablation (MVSR): three frames in, one out, no memory.

Source: the public release of FANI and its author's work log, whose MVSR_13 it is.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.models.mobile import blocks
from jaxvsr.models.mobile.base import PEAK, Windowed
from jaxvsr.models.mobile.blocks import Kernels
from jaxvsr.models.mobile.reparam import Convs


class FANI(Windowed):
    """Alignment by attention over colours, four blocks of partial features, a tail.

    As published the logits of the alignment are sums over all pixels of products of values in
    0..255: its softmax is one-hot and has no gradient, so that the neighbouring frames are in
    effect not used. `scaled` repairs it.

    Attributes:
        num_blocks: of partial features, each with attention at its end.
        align: how the neighbours enter: "attention" with the current frame as keys and values,
            "conv" a 1x1 convolution of all three frames, "concat" as they are, "none" not at all.
        align_project: whether a 1x1 convolution follows on the attention.
        scaled: divides the attention's logits by the number of pixels and by 255 squared.
        shallow: what the aligned frame enters through, "separable" or "conv".
        stage_dim: channels that a stage of a block convolves.
        stage_kernels: side and dilation of its convolutions.
        stage_depthwise: whether each channel is convolved alone.
        stage_fc: whether a 1x1 convolution chooses first what comes to those channels.
        merge: how the stages of a block meet, as of `blocks.Distillation`.
        fuse: whether a 1x1 convolution follows on "reduce".
        attention: at a block's end: "pixel", "channel" or "none".
        attention_dim, attention_kernels, attention_depthwise, attention_fc: of "pixel", as the
            stage's.
        tail: the last convolution, "conv" without a bias or "separable".
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
    def restore(self, frames: Sequence[jax.Array], train: bool) -> jax.Array:
        """As `Windowed.restore`."""
        convs = self.convs
        x = self._aligned(frames)
        if self.shallow == "separable":
            x = convs.separable(x, self.dim, name="shallow")
        else:
            x = convs(x, self.dim, name="shallow")
        for i in range(self.num_blocks):
            block = blocks.Distillation(
                convs,
                functools.partial(
                    blocks.PartialFeatures,
                    convs=convs,
                    features=self.stage_dim,
                    kernels=self.stage_kernels,
                    depthwise=self.stage_depthwise,
                    fc=self.stage_fc,
                ),
                self._attention(),
                self.merge,
                self.fuse,
                name=f"block_{i}",
            )
            x = block(x, train)
        features = 3 * self.scale**2
        if self.tail == "separable":
            return convs.separable(x, features, name="tail")
        return convs(x, features, bias=False, name="tail")

    def _aligned(self, frames: Sequence[jax.Array]) -> jax.Array:
        before, current, after = frames
        match self.align:
            case "none":
                return current
            case "concat":
                return jnp.concatenate(frames, axis=-1)
            case "conv":
                return self.convs(jnp.concatenate(frames, axis=-1), self.dim, 1, name="align")
        align = ColourAttention(self.convs, self.align_project, self.scaled, name="align")
        return align(current, jnp.concatenate([before, after], axis=-1))

    def _attention(self) -> Callable[..., nn.Module] | None:
        match self.attention:
            case "none":
                return None
            case "channel":
                return functools.partial(blocks.ChannelAttention, self.convs, self.dim)
        return functools.partial(
            blocks.PixelAttention,
            self.convs,
            self.attention_dim,
            self.attention_kernels,
            self.attention_depthwise,
            self.attention_fc,
        )


class ColourAttention(nn.Module):
    """AFA: each colour of the current frame takes from all three, as the neighbours tell.

    Attributes:
        convs: how convolutions are made.
        project: whether a 1x1 convolution follows.
        scaled: the logits are means over the pixels, of products of values in [0, 1].
    """

    convs: Convs
    project: bool
    scaled: bool

    @nn.compact
    def __call__(self, current: jax.Array, neighbours: jax.Array) -> jax.Array:
        """current (b, t, h, w, 3), neighbours (b, t, h, w, 6), in 0..255 -> (b, t, h, w, 3)."""
        reference = self.convs(neighbours, 1, name="reference")
        query = self.convs(reference, 3, name="query")
        key = self.convs(current, 3, name="key")
        value = self.convs(current, 3, name="value")
        product = functools.partial(
            jnp.einsum, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
        )
        logits = product("bthwi,bthwj->btij", key, query)
        self.sow("intermediates", "logits", logits / 3**0.5)
        # They are so large that a compiler which computes the quotient twice, and rounds it in two
        # ways, would find it other than its own maximum: what is one-hot would get a gradient.
        logits = logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True))
        pixels = current.shape[-3] * current.shape[-2]
        weights = nn.softmax(logits / (3**0.5 * (pixels * PEAK**2 if self.scaled else 1)))
        y = product("bthwi,btij->bthwj", value, weights).astype(current.dtype)
        if self.project:
            y = self.convs(y, 3, 1, name="project")
        aligned = current + y
        self.sow("intermediates", "aligned", aligned)
        return aligned
