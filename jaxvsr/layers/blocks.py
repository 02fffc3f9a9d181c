"""Small building blocks with PyTorch's initialization, which the papers' recipes assume."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxvsr.layers.convolution import same_conv

# Of linear layers in transformers. The official code truncates at 100 sigma, which has no effect.
linear_init = nn.initializers.normal(0.02)
# Affine parts are small: rounded to bfloat16, a TPU's default, they would lose digits.
EXACT = jax.lax.Precision.HIGHEST


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default initializer of weights and biases: U(-fan_in^-1/2, fan_in^-1/2)."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Conv(nn.Conv):
    """Zero-padded convolution of stride 1 over (..., h, w, c), with fast gradients inside loops.

    Raises:
        ValueError: a stride, dilation, padding or even kernel size, which `flax.linen.Conv` has.
    """

    conv_general_dilated: Any = same_conv


def conv(
    x: Float[Array, "*n h w c"],
    features: int,
    kernel_size: int = 3,
    groups: int = 1,
    *,
    name: str,
    dtype: Any = jnp.float32,
) -> Float[Array, "*n h w {features}"]:
    """Convolution with PyTorch's initialization, as a submodule of the calling module.

    Args:
        x: (..., h, w, c).
        features: output channels.
        kernel_size: height and width of the kernel, odd.
        groups: number of channel groups.
        name: of the submodule.
        dtype: of the computation.

    Returns:
        (..., h, w, features).
    """
    init = torch_uniform(kernel_size**2 * x.shape[-1] // groups)
    how: dict[str, Any] = {"feature_group_count": groups, "dtype": dtype, "name": name}
    sizes = (kernel_size, kernel_size)
    return Conv(features, sizes, kernel_init=init, bias_init=init, **how)(x)


def dense(
    x: Float[Array, "*n c"], features: int, *, name: str, dtype: Any = jnp.float32
) -> Float[Array, "*n {features}"]:
    """Linear layer with PyTorch's initialization, as a submodule: (..., c) -> (..., features)."""
    init = torch_uniform(x.shape[-1])
    return nn.Dense(features, dtype=dtype, kernel_init=init, bias_init=init, name=name)(x)


def strided_conv(
    x: Float[Array, "*n h w c"], features: int, *, name: str, dtype: Any = jnp.float32
) -> Float[Array, "*n (h+1)//2 (w+1)//2 {features}"]:
    """3x3 convolution of stride 2, as a submodule: height and width are halved, rounded up.

    Its gradients are slow inside loops on a CPU.
    """
    init = torch_uniform(9 * x.shape[-1])
    how: dict[str, Any] = {"strides": (2, 2), "padding": 1, "dtype": dtype}
    return nn.Conv(features, (3, 3), **how, kernel_init=init, bias_init=init, name=name)(x)


def layer_norm(
    x: Float[Array, "*n c"], epsilon: float = 1e-5, *, name: str, dtype: Any = jnp.float32
) -> Float[Array, "*n c"]:
    """PyTorch's LayerNorm over the last axis, as a submodule; statistics are float32."""
    x = _centered(x)
    return nn.LayerNorm(epsilon=epsilon, use_fast_variance=False, dtype=dtype, name=name)(x)


def normalize(x: Float[Array, "*n c"], dtype: Any = jnp.float32) -> Float[Array, "*n c"]:
    """`layer_norm` without its affine part, as a plain function; returns `dtype`."""
    x = _centered(x)
    x = x - x.mean(-1, keepdims=True)
    return (x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-5)).astype(dtype)


def _centered(x: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
    """Subtracts the mean, in float32.

    A norm subtracts the mean of the result once more: what rounding left of a large offset. The
    norm is invariant to an offset, so no gradient flows through this one.
    """
    x = x.astype(jnp.float32)
    return x - jax.lax.stop_gradient(x.mean(-1, keepdims=True))


def gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Exact GELU, by erf; the tanh form differs in the third decimal."""
    return nn.gelu(x, approximate=False)


def leaky_relu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """LeakyReLU of slope 0.1."""
    return nn.leaky_relu(x, 0.1)


class ResidualBlock(nn.Module):
    """Residual block without normalization: convolution, ReLU, convolution.

    Source: Lim et al., "Enhanced Deep Residual Networks" (EDSR), section 3.1; initialization as in
        ESRGAN.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*n h w c"]) -> Float[Array, "*n h w c"]:
        """(..., h, w, c) -> (..., h, w, c)."""
        # A tenth of He's, so that a deep stack of blocks starts near the identity.
        init = nn.initializers.variance_scaling(0.02, "fan_in", "normal")
        make = functools.partial(Conv, x.shape[-1], (3, 3), dtype=self.dtype, kernel_init=init)
        return x + make(name="conv2")(nn.relu(make(name="conv1")(x)))


class ResidualBlocks(nn.Module):
    """Convolution and residual blocks: the feature refinement of BasicVSR and its successors.

    Attributes:
        dim: output channels.
        depth: number of blocks.
        dtype: of the computation.
    """

    dim: int
    depth: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*n h w c"]) -> Float[Array, "*n h w {self.dim}"]:
        """(..., h, w, c) -> (..., h, w, dim)."""
        # As one axis of frames: on a GPU the convolution then adds the skip connection, too.
        frames = x.shape[:-3]
        x = x.reshape(-1, *x.shape[-3:])
        x = leaky_relu(conv(x, self.dim, name="conv_in", dtype=self.dtype))
        for i in range(self.depth):
            x = ResidualBlock(self.dtype, name=f"block_{i}")(x)
        return x.reshape(*frames, *x.shape[1:])


class Dense(NamedTuple):
    """A dense layer."""

    kernel: Float[Array, "c_in c_out"]
    bias: Float[Array, " c_out"]

    def __call__(self, x: Float[Array, "*b c_in"]) -> Float[Array, "*b c_out"]:
        """The layer's output in the dtype of `x`."""
        return x @ self.kernel.astype(x.dtype) + self.bias.astype(x.dtype)

    def after(self, norm: tuple[Float[Array, " c_in"], Float[Array, " c_in"]]) -> "Dense":
        """The dense layer that equals the affine part (scale, bias) of a norm and then this one."""
        scale, offset = norm
        bias = jnp.dot(offset, self.kernel, precision=EXACT)
        return Dense(scale[:, None] * self.kernel, bias + self.bias)


class DenseWeights(nn.Module):
    """Owns a dense layer from `dim` channels to `features`."""

    features: int
    kernel_init: nn.initializers.Initializer = linear_init
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, dim: int) -> Dense:
        kernel = self.param("kernel", self.kernel_init, (dim, self.features), jnp.float32)
        return Dense(kernel, self.param("bias", self.bias_init, (self.features,), jnp.float32))


class MLP(nn.Module):
    """Two linear layers with a GELU between them.

    Attributes:
        ratio: hidden width over input width.
        dtype: of the computation.
        activation: between the two layers.
    """

    ratio: float
    dtype: Any = jnp.float32
    activation: Callable[[jax.Array], jax.Array] = gelu

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
        """(..., c) -> (..., c)."""
        dim = x.shape[-1]
        hidden = int(dim * self.ratio)
        x = nn.Dense(hidden, kernel_init=linear_init, dtype=self.dtype, name="fc1")(x)
        return nn.Dense(dim, kernel_init=linear_init, dtype=self.dtype, name="fc2")(
            self.activation(x)
        )


class GEGLU(nn.Module):
    """Gated MLP: the GELU of one linear layer multiplies a second one; a third projects.

    Attributes:
        hidden: hidden channels.
        features: output channels.
        dtype: of the computation.

    Source: Shazeer, "GLU Variants Improve Transformer", section 2.
    """

    hidden: int
    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n {self.features}"]:
        """(..., c) -> (..., features)."""
        gate = gelu(dense(x, self.hidden, name="fc11", dtype=self.dtype))
        x = gate * dense(x, self.hidden, name="fc12", dtype=self.dtype)
        return dense(x, self.features, name="fc2", dtype=self.dtype)


class DropPath(nn.Module):
    """Stochastic depth: zeroes the branch of whole samples, and scales up the others.

    It is active only if an rng named "droppath" is given.

    Attributes:
        rate: probability of dropping a sample.
    """

    rate: ArrayLike

    @nn.compact
    def __call__(self, x: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
        """(b, ...) -> (b, ...)."""
        if not self.has_rng("droppath"):
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        keep = jax.random.bernoulli(self.make_rng("droppath"), 1 - self.rate, shape)
        return jnp.where(keep, x / (1 - self.rate), 0).astype(x.dtype)
