"""Blocks of the mobile networks: partial features, feature distillation, and attention.

Sources: FANI's release and work log (MPFD, PFE, PPA); Hui et al., "IMDN", section 3.2 (IMDB and
contrast-aware attention); Zhou et al., "Efficient Image Super-Resolution using Vast-Receptive-Field
Attention" (VapSR), section 3.2 (VAB); Chen et al., "FasterNet", section 3.1 (partial convolution).
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxvsr.models.mobile.reparam import Convs

Kernels = tuple[tuple[int, int], ...]  # kernel size and dilation of each convolution of a chain


class BatchNorm(nn.Module):
    """Batch normalization with separate statistics per frame index, as in frame-wise training.

    The moving statistics are updated by one frame after the other, in order. As in Keras, moving
    variances are unbiased (divisor n - 1), and normalization uses biased ones (divisor n).

    Attributes:
        dtype: of the result; statistics are float32.
        momentum: decay of the moving statistics per frame.
        epsilon: added to the variance.
    """

    dtype: Any = jnp.float32
    momentum: float = 0.99
    epsilon: float = 1e-3

    @nn.compact
    def __call__(self, x: Float[Array, "b *t h w c"], train: bool) -> Float[Array, "b *t h w c"]:
        """Normalizes x (b, t, h, w, c) or (b, h, w, c) over clips and pixels."""
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        moving_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        moving_var = self.variable("batch_stats", "var", jnp.ones, channels)
        mean, var = moving_mean.value, moving_var.value
        if train:
            frames = x.astype(jnp.float32).reshape(x.shape[0], -1, *x.shape[-3:])
            mean, var = frames.mean((0, 2, 3)), frames.var((0, 2, 3))  # (t, c)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                n = frames.size // mean.size
                moving_mean.value = self._moved(moving_mean.value, mean)
                moving_var.value = self._moved(moving_var.value, var * n / max(n - 1, 1))
            if x.ndim == 5:
                mean, var = mean[:, None, None], var[:, None, None]
        gain = scale * jax.lax.rsqrt(var + self.epsilon)
        return (x * gain + (bias - mean * gain)).astype(self.dtype)

    def _moved(self, moving: ArrayLike, frames: Array) -> Array:
        """Updates a moving statistic (c,) by the statistics of frames (t, c), in order."""
        powers = self.momentum ** np.arange(len(frames), -1, -1, dtype=np.float32)
        return powers[0] * moving + (1 - self.momentum) * (powers[1:] @ frames)


class LayerNorm(nn.Module):
    """Keras' LayerNormalization over the last axis, with the work log's epsilon 1e-8."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
        """Normalizes x (..., c)."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return layer_norm(x.astype(jnp.float32), scale, bias).astype(self.dtype)


@jax.jit  # `flops.log_convention` recognizes it by name
def layer_norm(
    x: Float[Array, "*n c"], scale: Float[Array, " c"], bias: Float[Array, " c"]
) -> Float[Array, "*n c"]:
    """Layer normalization of x (..., c) float32 with an affine part of two (c,) arrays."""
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + 1e-8) * scale + bias


class PartialFeatures(nn.Module):
    """PFE: spatial convolutions on the first channels only, then a mixer of all of them.

    Attributes:
        convs: factory of convolutions.
        features: number of channels with spatial convolutions, the first ones.
        kernels: kernel size and dilation of the spatial convolutions.
        depthwise: whether spatial convolutions are depthwise.
        fc: whether a 1x1 convolution comes first.
        mix_ratio: hidden width of the mixer over the number of channels.
    """

    convs: Convs
    features: int
    kernels: Kernels
    depthwise: bool
    fc: bool
    mix_ratio: int = 2

    @nn.compact
    def __call__(self, x: Float[Array, "*n h w c"], train: bool) -> Float[Array, "*n h w c"]:
        """Applies the block to x (..., h, w, c)."""
        dim = x.shape[-1]
        if self.fc:
            x = self.convs(x, dim, 1, name="fc")
        part = x[..., : self.features]
        part = self.convs.chain(part, self.kernels, depthwise=self.depthwise, name="conv")
        x = jnp.concatenate([part, x[..., self.features :]], axis=-1)
        x = self.convs(x, self.mix_ratio * dim, 1, inner=True, name="expand")
        x = nn.relu(BatchNorm(self.convs.dtype, name="norm")(x, train))
        return self.convs(x, dim, 1, name="project")


class PixelAttention(nn.Module):
    """PPA: partial pixel attention, a sigmoid gate on the first channels.

    Attributes:
        convs: factory of convolutions.
        features: number of gated channels, the first ones.
        kernels: kernel size and dilation of the gate's convolutions.
        depthwise: whether these are depthwise.
        fc: whether a 1x1 convolution comes first.
    """

    convs: Convs
    features: int
    kernels: Kernels = ((3, 1),)
    depthwise: bool = False
    fc: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*n h w c"]) -> Float[Array, "*n h w c"]:
        """Applies the block to x (..., h, w, c)."""
        if self.fc:
            x = self.convs(x, x.shape[-1], 1, name="fc")
        part = x[..., : self.features]
        gate = self.convs.chain(nn.relu(part), self.kernels, depthwise=self.depthwise, name="gate")
        part = part * nn.sigmoid(gate)
        return jnp.concatenate([part, x[..., self.features :]], axis=-1)


class ChannelAttention(nn.Module):
    """Channel attention: a gate per channel, from its mean over the frame.

    Attributes:
        convs: factory of convolutions.
        hidden: hidden channels.
        contrast: whether the standard deviation is added to the mean (IMDN's contrast-aware
            attention).
    """

    convs: Convs
    hidden: int
    contrast: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*n h w c"]) -> Float[Array, "*n h w c"]:
        """Applies the block to x (..., h, w, c)."""
        pixels = x.astype(jnp.float32)
        y = pixels.mean((-3, -2), keepdims=True)
        if self.contrast:
            y = y + pixels.std((-3, -2), keepdims=True)
        y = nn.relu(self.convs(y, self.hidden, 1, name="reduce"))
        return x * nn.sigmoid(self.convs(y, x.shape[-1], 1, name="expand"))


class Distillation(nn.Module):
    """MPFD: distillation of three stages of partial features, then attention.

    Attributes:
        convs: factory of convolutions.
        stage: makes a stage from `name` and, optionally, `features`.
        attention: makes the attention module from `name`; None: no attention.
        merge: how the input and the stages are merged: "reduce" reduces each to a quarter of the
            channels, "concat" keeps all channels, "refine" passes all through one more stage.
        fuse: whether a 1x1 convolution follows "reduce".
    """

    convs: Convs
    stage: Callable[..., nn.Module]
    attention: Callable[..., nn.Module] | None
    merge: Literal["reduce", "concat", "refine"] = "reduce"
    fuse: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*n h w c"], train: bool) -> Float[Array, "*n h w c"]:
        """Applies the block to x (..., h, w, c)."""
        dim = x.shape[-1]
        parts = [x]
        for i in range(3):
            parts.append(self.stage(name=f"stage_{i}")(parts[-1], train))
        parts = [*parts[1:], x]
        if self.merge == "reduce":
            parts = [
                self.convs(part, dim // 4, 1, name=f"reduce_{i}") for i, part in enumerate(parts)
            ]
        x = jnp.concatenate(parts, axis=-1)
        if self.merge == "refine":
            x = self.stage(features=x.shape[-1] // 2, name="refine")(x, train)
        if self.merge != "reduce" or self.fuse:
            x = self.convs(x, dim, 1, name="fuse")
        return x if self.attention is None else self.attention(name="attention")(x)


class InformationDistillation(nn.Module):
    """IMDB: information distillation in three convolutions, then attention.

    Attributes:
        convs: factory of convolutions.
        widths: output channels of each convolution.
        kept: channels distilled from each of the first two, the first ones.
        contrast: whether attention is contrast-aware channel attention, or pixel attention.
    """

    convs: Convs
    widths: tuple[int, int, int]
    kept: int
    contrast: bool

    @nn.compact
    def __call__(self, x: Float[Array, "*n h w c"], train: bool) -> Float[Array, "*n h w c"]:
        """Applies the block to x (..., h, w, c)."""
        dim, y, parts = x.shape[-1], x, []
        for i, width in enumerate(self.widths):
            y = nn.leaky_relu(self.convs(y, width, name=f"conv_{i}"), 0.1)
            last = i == len(self.widths) - 1
            parts.append(y if last else y[..., : self.kept])
            y = y[..., self.kept :]
        x = self.convs(jnp.concatenate([*parts, x], axis=-1), dim, 1, name="fuse")
        if self.contrast:
            return ChannelAttention(self.convs, dim // 2, contrast=True, name="attention")(x)
        return PixelAttention(self.convs, dim, name="attention")(x)


class LargeAttention(nn.Module):
    """VAB: a bottleneck with large-kernel attention.

    Attributes:
        convs: factory of convolutions.
        features: channels of the bottleneck.
        pointwise: first 1x1 convolution of the attention: "partial" on the first quarter of the
            channels, "conv" on all, "biased" on all and with a bias.
        mix: 1x1 convolutions before each spatial one: "twice" a pair before both, "once" a pair
            before the first only, "dense" a single one before both, "none".
        mix_ratio: hidden width of a pair over `features`.
        kernels: kernel size and dilation of the spatial convolutions.
        ratio: fraction of the channels, the first ones, with spatial convolutions.
        depthwise: whether spatial convolutions are depthwise.
    """

    convs: Convs
    features: int
    pointwise: Literal["partial", "conv", "biased"] = "biased"
    mix: Literal["none", "once", "twice", "dense"] = "none"
    mix_ratio: int = 1
    kernels: Kernels = ((5, 1), (5, 3))
    ratio: float = 0.25
    depthwise: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*n h w c"], train: bool) -> Float[Array, "*n h w c"]:
        """Applies the block to x (..., h, w, c)."""
        y = nn.relu(self.convs(x, self.features, 1, name="proj_in"))
        y = y * self._weights(y)
        y = self.convs(y, x.shape[-1], 1, name="proj_out") + x
        return LayerNorm(self.convs.dtype, name="norm")(y)

    def _weights(self, x: jax.Array) -> jax.Array:
        def partial(x: jax.Array, ratio: float, side: int, **how: Any) -> jax.Array:
            features = int(ratio * self.features)
            part = self.convs(x[..., :features], features, side, bias=False, **how)
            return jnp.concatenate([part, x[..., features:]], axis=-1)

        if self.pointwise == "biased":
            x = self.convs(x, self.features, 1, name="pointwise")
        else:
            x = partial(x, 0.25 if self.pointwise == "partial" else 1, 1, name="pointwise")
        for i, (side, dilation) in enumerate(self.kernels):
            if i < {"none": 0, "once": 1, "twice": 2, "dense": 2}[self.mix]:
                x = self._mixed(x, i)
            how = {"dilation": dilation, "depthwise": self.depthwise, "name": f"spatial_{i}"}
            x = partial(x, self.ratio, side, **how)
        return x

    def _mixed(self, x: jax.Array, i: int) -> jax.Array:
        if self.mix == "dense":
            return self.convs(x, self.features, 1, name=f"mix_{i}")
        width = self.mix_ratio * self.features
        x = nn.relu(self.convs(x, width, 1, inner=True, name=f"mix_{i}_in"))
        return self.convs(x, self.features, 1, name=f"mix_{i}_out")
