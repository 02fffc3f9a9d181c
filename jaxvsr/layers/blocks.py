"""Small building blocks, initialised as PyTorch does, since the published recipes assume it."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxvsr.layers.convolution import same_conv

# Of the transformers' linear layers; the published truncation, at 100 sigma, cuts nothing off.
linear_init = nn.initializers.normal(0.02)


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for weights and biases of a layer: U(-fan_in^-1/2, fan_in^-1/2)."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Conv(nn.Conv):
    """A zero-padded convolution of stride 1 over (..., h, w, c), as fast as it can be in loops."""

    conv_general_dilated: Any = same_conv


def conv(
    x: jax.Array,
    features: int,
    kernel_size: int = 3,
    groups: int = 1,
    *,
    name: str,
    dtype: Any = jnp.float32,
) -> jax.Array:
    """A convolution initialised as PyTorch's, as a submodule of the calling module.

    Args:
        x: (..., h, w, c).
        features: output channels.
        kernel_size: side of the kernel, odd.
        groups: of channels that do not meet.
        name: of the submodule.
        dtype: of the computation.

    Returns:
        (..., h, w, features).
    """
    init = torch_uniform(kernel_size**2 * x.shape[-1] // groups)
    how: dict[str, Any] = {"feature_group_count": groups, "dtype": dtype, "name": name}
    sizes = (kernel_size, kernel_size)
    return Conv(features, sizes, kernel_init=init, bias_init=init, **how)(x)


def dense(x: jax.Array, features: int, *, name: str, dtype: Any = jnp.float32) -> jax.Array:
    """A linear layer initialised as PyTorch's, as a submodule: (..., c) -> (..., features)."""
    init = torch_uniform(x.shape[-1])
    return nn.Dense(features, dtype=dtype, kernel_init=init, bias_init=init, name=name)(x)


def strided_conv(x: jax.Array, features: int, *, name: str, dtype: Any = jnp.float32) -> jax.Array:
    """A 3x3 convolution of stride 2, for outside of loops: (..., h, w, c) -> halves, rounded up."""
    init = torch_uniform(9 * x.shape[-1])
    how: dict[str, Any] = {"strides": (2, 2), "padding": 1, "dtype": dtype}
    return nn.Conv(features, (3, 3), **how, kernel_init=init, bias_init=init, name=name)(x)


def layer_norm(
    x: jax.Array, epsilon: float = 1e-5, *, name: str, dtype: Any = jnp.float32
) -> jax.Array:
    """PyTorch's LayerNorm over the last axis, as a submodule: statistics in float32."""
    x = x.astype(jnp.float32)
    # The norm does not see a common offset; taken off first, it costs no digits of the variance.
    x = x - jax.lax.stop_gradient(x[..., :1])
    return nn.LayerNorm(epsilon=epsilon, use_fast_variance=False, dtype=dtype, name=name)(x)


def normalize(x: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
    """`layer_norm` without its affine part, a plain function: (..., c) -> (..., c) in `dtype`."""
    x = x.astype(jnp.float32)
    x = x - jax.lax.stop_gradient(x[..., :1])
    x = x - x.mean(-1, keepdims=True)
    return (x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-5)).astype(dtype)


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, by erf: the tanh form differs in the third decimal."""
    return nn.gelu(x, approximate=False)


def leaky_relu(x: jax.Array) -> jax.Array:
    """LeakyReLU of slope 0.1, in every head of the family."""
    return nn.leaky_relu(x, 0.1)


class ResidualBlock(nn.Module):
    """Two convolutions, a ReLU between them and a way around: no normalisation.

    Source: Lim et al., "Enhanced Deep Residual Networks" (EDSR), section 3.1; the small start is
        ESRGAN's.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., h, w, c) -> (..., h, w, c)."""
        # A tenth of He's, so that many blocks in a row start near the identity.
        init = nn.initializers.variance_scaling(0.02, "fan_in", "normal")
        make = functools.partial(Conv, x.shape[-1], (3, 3), dtype=self.dtype, kernel_init=init)
        return x + make(name="conv2")(nn.relu(make(name="conv1")(x)))


class ResidualBlocks(nn.Module):
    """A convolution and residual blocks, which refine the features of most recurrent networks.

    Attributes:
        dim: output channels.
        depth: number of blocks.
        dtype: of the computation.
    """

    dim: int
    depth: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., h, w, c) -> (..., h, w, dim)."""
        x = leaky_relu(conv(x, self.dim, name="conv_in", dtype=self.dtype))
        for i in range(self.depth):
            x = ResidualBlock(self.dtype, name=f"block_{i}")(x)
        return x


class MLP(nn.Module):
    """Two linear layers with a GELU between them, `ratio` times as wide inside."""

    ratio: float
    dtype: Any = jnp.float32
    activation: Callable[[jax.Array], jax.Array] = gelu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., c) -> (..., c)."""
        dim = x.shape[-1]
        hidden = int(dim * self.ratio)
        x = nn.Dense(hidden, kernel_init=linear_init, dtype=self.dtype, name="fc1")(x)
        return nn.Dense(dim, kernel_init=linear_init, dtype=self.dtype, name="fc2")(
            self.activation(x)
        )


class GEGLU(nn.Module):
    """Two linear layers, of which a GELU of one gates the other, and a third.

    Attributes:
        hidden: channels inside.
        features: output channels.
        dtype: of the computation.

    Source: Shazeer, "GLU Variants Improve Transformer", section 2.
    """

    hidden: int
    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., c) -> (..., features)."""
        gate = gelu(dense(x, self.hidden, name="fc11", dtype=self.dtype))
        x = gate * dense(x, self.hidden, name="fc12", dtype=self.dtype)
        return dense(x, self.features, name="fc2", dtype=self.dtype)


class DropPath(nn.Module):
    """Stochastic depth: drops a whole sample's branch, and scales the others up.

    It acts only where an rng named "droppath" is given.
    """

    rate: ArrayLike

    @nn.compact
    def __call__(self, x: ArrayLike) -> jax.Array:
        """(b, ...) -> (b, ...)."""
        x = jnp.asarray(x)
        if not self.has_rng("droppath"):
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        keep = jax.random.bernoulli(self.make_rng("droppath"), 1 - self.rate, shape)
        return jnp.where(keep, x / (1 - self.rate), 0).astype(x.dtype)
