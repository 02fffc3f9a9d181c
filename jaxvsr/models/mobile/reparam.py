"""Convolutions of the mobile networks, with Keras' initialization and reparameterization.

Structural reparameterization trains several parallel branches and deploys one convolution.

Source: Ding et al., "RepVGG", section 3; branches without normalization as in Zhang et al.,
"Edge-oriented Convolution Block" (ECBSR), section 3.2.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvsr.layers.convolution import same_conv

glorot_uniform = nn.initializers.glorot_uniform()


class BranchedConv(nn.Conv):
    """Sum of a convolution, a 1x1 convolution and, if widths are equal, a scaled identity.

    Since convolution is linear, the kernels are summed. All branches together then cost as much as
    one convolution, also in training.
    """

    def param(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Returns a parameter; for "kernel", the sum of the branches."""
        value = super().param(name, *args, **kwargs)
        if name != "kernel":
            return value
        *_, inputs, outputs = value.shape
        branches = {"kernel": value}
        branches["pointwise"] = super().param("pointwise", glorot_uniform, (1, 1, inputs, outputs))
        if inputs == outputs:
            branches["identity"] = super().param("identity", nn.initializers.ones, (outputs,))
        return _merged(branches)


@dataclasses.dataclass(frozen=True)
class Convs:
    """Factory of convolutions, each a submodule of the calling module.

    Attributes:
        dtype: of the computation.
        reparam: whether convolutions larger than 1x1 are trained as parallel branches.
        pruned: fraction of the output channels that inner convolutions lack.
    """

    dtype: Any = jnp.float32
    reparam: bool = False
    pruned: float = 0.0

    def __call__(
        self,
        x: Float[Array, "*n h w c"],
        features: int,
        side: int = 3,
        *,
        name: str,
        bias: bool = True,
        dilation: int = 1,
        depthwise: bool = False,
        inner: bool = False,
        init: nn.initializers.Initializer = glorot_uniform,
    ) -> Float[Array, "*n h w _"]:
        """Zero-padded convolution of stride 1.

        Args:
            x: (..., h, w, c).
            features: output channels.
            side: kernel size, odd.
            name: of the submodule.
            bias: whether the convolution has a bias.
            dilation: of the kernel.
            depthwise: whether the convolution is depthwise.
            inner: whether convolutions alone read the output, through functions of one channel, so
                that channels can be pruned.
            init: initializer of the kernel.

        Returns:
            (..., h, w, features), or fewer channels if `inner` and `pruned`.
        """
        if inner:
            features = max(1, round((1 - self.pruned) * features))
        branched = self.reparam and side > 1 and not depthwise
        return (BranchedConv if branched else nn.Conv)(
            features,
            (side, side),
            kernel_dilation=dilation,
            feature_group_count=features if depthwise else 1,
            use_bias=bias,
            kernel_init=init,
            dtype=self.dtype,
            conv_general_dilated=None if depthwise or dilation > 1 else same_conv,
            name=name,
        )(x)

    def separable(
        self, x: Float[Array, "*n h w c"], features: int, *, name: str
    ) -> Float[Array, "*n h w {features}"]:
        """Blueprint separable convolution (BSConv): 1x1, then 3x3 depthwise.

        Args:
            x: (..., h, w, c).
            features: output channels.
            name: prefix of the submodules.

        Returns:
            (..., h, w, features).

        Source: Haase and Amthor, "Rethinking Depthwise Separable Convolutions", section 3.2.
        """
        x = self(x, features, 1, name=f"{name}_pointwise")
        return self(x, features, depthwise=True, name=f"{name}_depthwise")

    def chain(
        self,
        x: Float[Array, "*n h w c"],
        kernels: tuple[tuple[int, int], ...],
        *,
        name: str,
        bias: bool = True,
        depthwise: bool = False,
    ) -> Float[Array, "*n h w c"]:
        """Consecutive convolutions without activations: a large receptive field.

        Args:
            x: (..., h, w, c).
            kernels: kernel size and dilation of each.
            name: prefix of the submodules.
            bias, depthwise: as in `__call__`.

        Returns:
            (..., h, w, c).
        """
        features = x.shape[-1]
        for i, (side, dilation) in enumerate(kernels):
            x = self(
                x,
                features,
                side,
                name=f"{name}_{i}",
                bias=bias,
                dilation=dilation,
                depthwise=depthwise,
                inner=not depthwise and i < len(kernels) - 1,
            )
        return x


def fuse(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Merges the parallel branches of convolutions trained with `reparam`.

    Args:
        variables: of a model with reparam=True, or a tree that holds them.

    Returns:
        Variables of the model with reparam=False that computes the same function.
    """
    if "pointwise" in variables and not isinstance(variables["pointwise"], Mapping):
        rest = {k: v for k, v in variables.items() if k == "bias"}
        return {"kernel": _merged(variables), **rest}
    return {k: fuse(v) if isinstance(v, Mapping) else v for k, v in variables.items()}


def _merged(branches: Mapping[str, Any]) -> jax.Array:
    """Kernel (side, side, in, out) that is the sum of the branches; small ones are centered."""
    center = branches["pointwise"][0, 0]
    if "identity" in branches:
        center = center + jnp.diag(branches["identity"])
    side = branches["kernel"].shape[0]
    return jnp.asarray(branches["kernel"]).at[side // 2, side // 2].add(center)
