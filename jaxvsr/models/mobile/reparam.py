"""Convolutions of the mobile networks: Keras' initialisation, and branches that become one kernel.

Structural re-parameterisation trains several parallel branches and deploys one convolution. Source:
Ding et al., "RepVGG", section 3; without normalisation in the branches, as networks for
super-resolution have it: Zhang et al., "Edge-oriented Convolution Block" (ECBSR), section 3.2.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.layers.convolution import same_conv

glorot_uniform = nn.initializers.glorot_uniform()


class BranchedConv(nn.Conv):
    """A convolution, a 1x1 convolution and, where the widths agree, a scaled identity, summed.

    Convolution is linear: it is the kernels that are summed, so that the branches cost no more
    than one of them, in training too.
    """

    def param(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The parameter of that name; as "kernel" the sum of the branches."""
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
    """How the convolutions of a network are made; each becomes a submodule of the calling module.

    Attributes:
        dtype: of the computation.
        reparam: whether those larger than 1x1 are trained as parallel branches (`fuse`).
    """

    dtype: Any = jnp.float32
    reparam: bool = False

    def __call__(
        self,
        x: jax.Array,
        features: int,
        side: int = 3,
        *,
        name: str,
        bias: bool = True,
        dilation: int = 1,
        depthwise: bool = False,
        init: nn.initializers.Initializer = glorot_uniform,
    ) -> jax.Array:
        """A zero-padded convolution of stride 1.

        Args:
            x: (..., h, w, c).
            features: output channels.
            side: of the kernel, odd.
            name: of the submodule.
            bias: whether there is one.
            dilation: distance of the kernel's taps.
            depthwise: each output channel sees the input channel of its own number.
            init: of the kernel.

        Returns:
            (..., h, w, features).
        """
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

    def separable(self, x: jax.Array, features: int, *, name: str) -> jax.Array:
        """BSConv: 1x1 across the channels, then 3x3 in each. (..., c) -> (..., features).

        Source: Haase and Amthor, "Rethinking Depthwise Separable Convolutions", section 3.2.
        """
        x = self(x, features, 1, name=f"{name}_pointwise")
        return self(x, features, depthwise=True, name=f"{name}_depthwise")

    def chain(
        self,
        x: jax.Array,
        kernels: tuple[tuple[int, int], ...],
        *,
        name: str,
        bias: bool = True,
        depthwise: bool = False,
    ) -> jax.Array:
        """Convolutions one after the other with nothing between them: a wide field of view.

        Args:
            x: (..., h, w, c).
            kernels: side and dilation of each.
            name: of the submodules, before their number.
            bias, depthwise: of each.

        Returns:
            (..., h, w, c).
        """
        for i, (side, dilation) in enumerate(kernels):
            x = self(
                x,
                x.shape[-1],
                side,
                name=f"{name}_{i}",
                bias=bias,
                dilation=dilation,
                depthwise=depthwise,
            )
        return x


def fuse(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Turns the variables of a network trained with `reparam` into those of one without.

    Args:
        variables: of a model with reparam=True, or a tree of them.

    Returns:
        The variables of the same model with reparam=False; it computes the same.
    """
    if "pointwise" in variables and not isinstance(variables["pointwise"], Mapping):
        rest = {k: v for k, v in variables.items() if k == "bias"}
        return {"kernel": _merged(variables), **rest}
    return {k: fuse(v) if isinstance(v, Mapping) else v for k, v in variables.items()}


def _merged(branches: Mapping[str, jax.Array]) -> jax.Array:
    """The one kernel (side, side, in, out) of parallel branches; the small ones meet its centre."""
    centre = branches["pointwise"][0, 0]
    if "identity" in branches:
        centre = centre + jnp.diag(branches["identity"])
    side = branches["kernel"].shape[0]
    return jnp.asarray(branches["kernel"]).at[side // 2, side // 2].add(centre)
