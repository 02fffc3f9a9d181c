"""A step of a mobile network as phones run it: arrays of rank 4, operations of a GPU delegate.

`model.step` computes the same values with arrays of rank 5 and 6, which a converter turns into
transposes and which a phone's GPU refuses.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxvsr import models
from jaxvsr.errors import InputError
from jaxvsr.layers.upsample import depth_to_space, resize
from jaxvsr.models.mobile import blocks
from jaxvsr.models.mobile.base import PEAK, Mobile, Recurrent
from jaxvsr.models.mobile.fani import ColorAttention
from jaxvsr.models.mobile.reparam import fuse

MAX_BYTES = 2**31 - 1  # of one array, in a LiteRT file


@dataclasses.dataclass(frozen=True)
class PhoneGraph:
    """One step of a network for frames of one size.

    Attributes:
        model: the network, with fused convolutions and float32 computation.
        variables: of the network.
        frames: shape (1, h, w, 3 * n) of the previous, current and next frame.
        hidden: shape (1, h, w, c) of the state; None: the network has none.
        clips: whether sr is clipped to 0..255; otherwise uint8 values must saturate.
    """

    model: Mobile
    variables: Any
    frames: tuple[int, int, int, int]
    hidden: tuple[int, int, int, int] | None
    clips: bool = True

    @property
    def inputs(self) -> dict[str, tuple[int, int, int, int]]:
        """Shapes by name, in order."""
        return {"frames": self.frames} | ({"hidden": self.hidden} if self.hidden else {})

    @property
    def outputs(self) -> list[str]:
        """Names, in order."""
        return ["sr", "hidden_out"] if self.hidden else ["sr"]


def phone_graph(model: nn.Module, variables: Any, size: tuple[int, int]) -> PhoneGraph:
    """Makes the graph of a network.

    Args:
        model: a mobile network.
        variables: of the network; parallel branches of `reparam` are fused.
        size: (height, width) of a frame.

    Raises:
        InputError: the network cannot run frame by frame on a phone, or not at this size.
    """
    model = as_mobile(model)
    height, width = size
    if height < 1 or width < 1:
        raise InputError(f"--size={height}x{width} must be HEIGHTxWIDTH, both positive")
    widest = max(3 * model.scale**2, _widest(variables))
    if 4 * height * width * widest > MAX_BYTES:
        raise InputError(
            f"--size={height}x{width} is too large: arrays of a LiteRT file have at most 2 GiB; "
            f"with this network height*width must be at most {MAX_BYTES // 4 // widest:,}"
        )
    if model.reparam:
        variables = fuse(variables)
    model = model.clone(reparam=False, dtype=jnp.float32)
    count = 2 + model.lookahead
    hidden = None
    if isinstance(model, Recurrent):
        state = jax.eval_shape(lambda: model.initial_state((1, *size, 3)))
        hidden = (1, *size, state.shape[-1])
    return PhoneGraph(model, variables, (1, *size, 3 * count), hidden)


def as_mobile(model: nn.Module) -> Mobile:
    """Returns a network for phones as such; raises InputError for any other."""
    if isinstance(model, Mobile):
        return model
    name = type(model).__name__
    reason = f"{name} is not one of the networks for phones"
    if getattr(model, "lookahead", None) is None:
        reason = f"{name} needs the whole clip for each frame (it has no finite look-ahead)"
    names = ", ".join(name for name, kind in models.MODELS.items() if issubclass(kind, Mobile))
    raise InputError(f"{reason}; models that run frame by frame on a phone: {names}")


def step(
    graph: PhoneGraph,
    variables: Any,
    frames: Float[Array, "b h w n*3"],
    *hidden: Float[Array, "b h w c"],
) -> tuple[Array, ...]:
    """Runs the graph.

    Args:
        graph: of a network.
        variables: of its network.
        frames: (b, h, w, 3 * n), in 0..255.
        *hidden: the state (b, h, w, c), if the network has one.

    Returns:
        sr (b, scale*h, scale*w, 3) in 0..255 and, if there is a state, the next one.
    """
    residual, *state = predict(graph, variables, frames, *hidden)
    scale, current = graph.model.scale, frames[..., 3:6]

    def clip(sr: Array) -> Array:
        return jnp.minimum(nn.relu(sr), PEAK) if graph.clips else sr

    if graph.model.nearest:
        repeated = jnp.concatenate([current] * scale**2, axis=-1)
        return _depth_to_space(clip(residual + repeated), scale), *state
    return clip(_resize_bilinear(current, scale) + _depth_to_space(residual, scale)), *state


def predict(
    graph: PhoneGraph,
    variables: Any,
    frames: Float[Array, "b h w n*3"],
    *hidden: Float[Array, "b h w c"],
) -> tuple[Array, ...]:
    """The residual image (b, h, w, scale*scale*c) and, if there is a state, the next one."""
    window = jnp.split(frames, frames.shape[-1] // 3, axis=-1)
    outputs: Any
    with nn.intercept_methods(_phone_operations):
        if not hidden:
            outputs = graph.model.apply(variables, window, False, method="residual")
            return (outputs,)
        outputs = graph.model.apply(
            variables,
            hidden[0],
            jnp.zeros((), jnp.int32),
            window,
            method=lambda model, *x: model.cell(*x, train=False),
        )
    state, residual = outputs
    return residual, state


def _depth_to_space(x: Array, scale: int) -> Array:
    """`depth_to_space` that the converter recognizes."""

    def decomposition(x: Array, **_: Any) -> Array:
        return depth_to_space(x, scale)

    named = jax.lax.composite(decomposition, name="jaxvsr.depth_to_space")
    return named(x, block_size=np.int32(scale))


def _resize_bilinear(x: Array, scale: int) -> Array:
    """`resize` that the converter recognizes."""
    size = (scale * x.shape[1], scale * x.shape[2])

    def decomposition(x: Array, **_: Any) -> Array:
        return resize(x, size)

    named = jax.lax.composite(decomposition, name="odml.upsample_bilinear2d")
    return named(x, size=np.array(size, np.int64), align_corners=False, is_nchw_op=False)


def _phone_operations(
    method: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
) -> Any:
    """Replaces the call of a module by one without reductions or products over pixels' axes."""
    module = context.module
    if context.method_name == "__call__":
        if isinstance(module, ColorAttention):
            return _align_colors(module, *args, **kwargs)
        if isinstance(module, blocks.LayerNorm):
            return _layer_norm(module, *args, **kwargs)
        if isinstance(module, blocks.ChannelAttention):
            return _attend_channels(module, *args, **kwargs)
    return method(*args, **kwargs)


def _mix(x: Array, matrix: np.ndarray) -> Array:
    """1x1 convolution with a constant matrix (c_in, c_out)."""
    return jax.lax.conv_general_dilated(
        x,
        jnp.asarray(matrix[None, None], jnp.float32),
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )


def _align_colors(module: ColorAttention, current: Array, neighbors: Array) -> Array:
    """`ColorAttention` with the nine products of colors as channels."""
    first = np.repeat(np.eye(3), 3, axis=1)  # channel i of three goes to channels 3*i + j
    second = np.tile(np.eye(3), 3)  # channel j
    reference = module.convs(neighbors, 1, name="reference")
    query = module.convs(reference, 3, name="query")
    key = module.convs(current, 3, name="key")
    value = module.convs(current, 3, name="value")
    pixels = current.shape[1] * current.shape[2]
    products = _mix(key, first) * _mix(query, second)
    logits = products.mean((1, 2), keepdims=True)
    factor = 1 / PEAK**2 if module.scaled else pixels
    logits = (logits * (factor / 3**0.5)).reshape(-1, 1, 3, 3)
    weights = nn.softmax(logits).reshape(-1, 1, 1, 9)
    y = _mix(_mix(value, first) * weights, second.T)
    if module.project:
        y = module.convs(y, 3, 1, name="project")
    return current + y


def _layer_norm(module: blocks.LayerNorm, x: Array) -> Array:
    """`LayerNorm` with means over channels as 1x1 convolutions."""
    channels = x.shape[-1]
    scale = module.param("scale", nn.initializers.ones, (channels,))
    bias = module.param("bias", nn.initializers.zeros, (channels,))
    mean = np.full((channels, channels), 1 / channels)
    centered = _mix(x, np.eye(channels) - mean)
    variance = _mix(centered * centered, mean)
    return centered * jax.lax.rsqrt(variance + 1e-8) * scale + bias


def _attend_channels(module: blocks.ChannelAttention, x: Array) -> Array:
    """`ChannelAttention` without a subtraction."""
    y = x.mean((1, 2), keepdims=True)
    if module.contrast:
        centered = x + _mix(y, -np.eye(x.shape[-1]))
        y = y + jnp.sqrt((centered * centered).mean((1, 2), keepdims=True))
    y = nn.relu(module.convs(y, module.hidden, 1, name="reduce"))
    return x * nn.sigmoid(module.convs(y, x.shape[-1], 1, name="expand"))


def _widest(variables: Any) -> int:
    """Largest number of channels of any layer."""
    return max((x.shape[-1] for x in jax.tree.leaves(variables) if x.ndim), default=1)
