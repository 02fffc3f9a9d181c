"""Blocks of the mobile networks: partial features, their distillation, and attention.

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

from jaxvsr.models.mobile.reparam import Convs

Kernels = tuple[tuple[int, int], ...]  # side and dilation of each convolution of a chain


class BatchNorm(nn.Module):
    """Batch normalisation whose batch is one frame of every clip, as frames were trained in turn.

    The moving statistics are those after all frames of the clips, met in their order. Of the
    variance that enters them the divisor is n - 1, of the one that normalises it is n: Keras'.

    Attributes:
        dtype: of the result; statistics are float32.
        momentum: share of the moving statistics that a frame leaves.
        epsilon: added to the variance.
    """

    dtype: Any = jnp.float32
    momentum: float = 0.99
    epsilon: float = 1e-3

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x (b, t, h, w, c) or (b, h, w, c), normalised over clips and pixels."""
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

    def _moved(self, moving: jax.Array, frames: jax.Array) -> jax.Array:
        """The moving statistic (c,) after those of some frames (t, c)."""
        powers = self.momentum ** np.arange(len(frames), -1, -1, dtype=np.float32)
        return powers[0] * moving + (1 - self.momentum) * (powers[1:] @ frames)


class LayerNorm(nn.Module):
    """Keras' LayerNormalization over the last axis, as the work log sets it: eps 1e-8."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., c) -> (..., c)."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return layer_norm(x.astype(jnp.float32), scale, bias).astype(self.dtype)


@jax.jit  # its name is how `flops.log_convention` knows it
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """(..., c), (c,) and (c,) float32 -> (..., c)."""
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + 1e-8) * scale + bias


class PartialFeatures(nn.Module):
    """PFE: spatial convolutions on the first channels only, then a mixer of all of them.

    Attributes:
        convs: how convolutions are made.
        features: channels that are convolved.
        kernels: side and dilation of the spatial convolutions.
        depthwise: whether each channel is convolved alone.
        fc: whether a 1x1 convolution chooses first what comes to those channels.
        mix_ratio: width of the mixer over that of the input.
    """

    convs: Convs
    features: int
    kernels: Kernels
    depthwise: bool
    fc: bool
    mix_ratio: int = 2

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(..., h, w, c) -> (..., h, w, c)."""
        dim = x.shape[-1]
        if self.fc:
            x = self.convs(x, dim, 1, name="fc")
        part = x[..., : self.features]
        part = self.convs.chain(part, self.kernels, depthwise=self.depthwise, name="conv")
        x = jnp.concatenate([part, x[..., self.features :]], axis=-1)
        x = self.convs(x, self.mix_ratio * dim, 1, name="expand")
        x = nn.relu(BatchNorm(self.convs.dtype, name="norm")(x, train))
        return self.convs(x, dim, 1, name="project")


class PixelAttention(nn.Module):
    """PPA: the first channels, weighed at each pixel by what is around it.

    Attributes:
        convs: how convolutions are made.
        features: channels that are weighed.
        kernels: side and dilation of the convolutions that weigh.
        depthwise: whether they see a channel each.
        fc: whether a 1x1 convolution chooses first what comes to those channels.
    """

    convs: Convs
    features: int
    kernels: Kernels = ((3, 1),)
    depthwise: bool = False
    fc: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., h, w, c) -> (..., h, w, c)."""
        if self.fc:
            x = self.convs(x, x.shape[-1], 1, name="fc")
        part = x[..., : self.features]
        gate = self.convs.chain(nn.relu(part), self.kernels, depthwise=self.depthwise, name="gate")
        part = part * nn.sigmoid(gate)
        return jnp.concatenate([part, x[..., self.features :]], axis=-1)


class ChannelAttention(nn.Module):
    """Weighs the channels by what they hold on average over the frame.

    Attributes:
        convs: how convolutions are made.
        hidden: width of the layer between.
        contrast: whether the deviation from the average counts, too (IMDN's).
    """

    convs: Convs
    hidden: int
    contrast: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., h, w, c) -> (..., h, w, c)."""
        pixels = x.astype(jnp.float32)
        y = pixels.mean((-3, -2), keepdims=True)
        if self.contrast:
            y = y + pixels.std((-3, -2), keepdims=True)
        y = nn.relu(self.convs(y, self.hidden, 1, name="reduce"))
        return x * nn.sigmoid(self.convs(y, x.shape[-1], 1, name="expand"))


class Distillation(nn.Module):
    """MPFD: three stages of partial features, of each of which a part is kept; then attention.

    Attributes:
        convs: how convolutions are made.
        stage: makes a stage, of a name and perhaps of other channels to convolve.
        attention: makes what follows, of a name; None: nothing does.
        merge: how the input and the stages meet: "reduce" takes a quarter of the channels of each,
            "concat" all, "refine" all through one more stage.
        fuse: whether a 1x1 convolution follows on "reduce".
    """

    convs: Convs
    stage: Callable[..., nn.Module]
    attention: Callable[..., nn.Module] | None
    merge: Literal["reduce", "concat", "refine"] = "reduce"
    fuse: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(..., h, w, c) -> (..., h, w, c)."""
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
    """IMDB: three convolutions, of the first two of which some channels are kept aside.

    Attributes:
        convs: how convolutions are made.
        widths: channels of each.
        kept: channels that are kept aside of each.
        contrast: contrast-aware channel attention at the end, not attention to pixels.
    """

    convs: Convs
    widths: tuple[int, int, int]
    kept: int
    contrast: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(..., h, w, c) -> (..., h, w, c)."""
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
    """VAB: a bottleneck whose middle is weighed by convolutions of a wide field of view.

    Attributes:
        convs: how convolutions are made.
        features: channels of the middle.
        pointwise: 1x1 convolution that starts the attention: "partial" of the first quarter of the
            channels, "conv" of all, "biased" of all with a bias.
        mix: what lets the channels meet: "twice" two 1x1 convolutions after the first and again
            after the second step, "once" after the first only, "dense" one each, "none".
        mix_ratio: width between those two, over that of the middle.
        kernels: side and dilation of the spatial convolutions.
        ratio: share of the channels, the first ones, that are convolved.
        depthwise: whether each channel is convolved alone.
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
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(..., h, w, c) -> (..., h, w, c)."""
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
        x = nn.relu(self.convs(x, self.mix_ratio * self.features, 1, name=f"mix_{i}_in"))
        return self.convs(x, self.features, 1, name=f"mix_{i}_out")
