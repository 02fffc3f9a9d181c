"""Base classes of the mobile networks: neighboring frames, global skip connection, streaming.

A frame is upsampled from itself, the previous frame and, with a lookahead of one, the next frame.
At the ends of a clip, the missing frame is the end's own frame. Values are in 0..255.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from jaxvsr.layers.propagation import scan_frames
from jaxvsr.layers.upsample import depth_to_space, resize
from jaxvsr.models.inputs import AnyArray, check_lq
from jaxvsr.models.mobile.reparam import Convs

PEAK = 255.0


def gather_neighbors(
    lq: Float[Array, "b t *rest"], lookahead: int
) -> list[Float[Array, "b t *rest"]]:
    """Gathers, for each frame, the previous, the current and, if `lookahead` is 1, the next frame.

    Args:
        lq: (b, t, ...).
        lookahead: 0 or 1.

    Returns:
        2 + lookahead arrays (b, t, ...).
    """
    before = jnp.concatenate([lq[:, :1], lq[:, :-1]], axis=1)
    after = jnp.concatenate([lq[:, 1:], lq[:, -1:]], axis=1)
    return [before, lq, after][: 2 + lookahead]


def add_residual(
    frames: Float[Array, "*n h w 3"],
    residual: Float[Array, "*n h w _"],
    scale: int,
    *,
    clip: bool,
    nearest: bool = False,
) -> Float32[Array, "*n {scale}*h {scale}*w 3"]:
    """Adds a predicted residual to the upsampled input frame.

    Args:
        frames: (..., h, w, 3) RGB in [0, 1].
        residual: (..., h, w, scale*scale*c) in 0..255; c is 3, or 1 for one map for R, G and B.
        scale: upsampling factor.
        clip: whether the image is clipped to [0, 1], as some networks are trained.
        nearest: nearest instead of bilinear interpolation of the input.

    Returns:
        (..., scale*h, scale*w, 3) float32.
    """
    frames = PEAK * frames.astype(jnp.float32)
    height, width = (scale * side for side in frames.shape[-3:-1])
    if nearest:
        base = frames.repeat(scale, axis=-3).repeat(scale, axis=-2)
    else:
        base = resize(frames, (height, width))
    # Division follows the sum. A product before a sum may be fused into one rounding or not, and a
    # stream would then differ from the whole clip.
    sr = (base + depth_to_space(residual.astype(jnp.float32), scale)) / PEAK
    return jnp.clip(sr, 0, 1) if clip else sr


class Mobile(nn.Module):
    """Base class of the mobile networks.

    Attributes:
        dim: channels of the features.
        scale: upsampling factor.
        reparam: whether convolutions are trained as parallel branches; `reparam.fuse` merges them.
        prune_channels: fraction of the channels that are pruned between convolutions.
        dtype: of the computation; the image is float32.
    """

    dim: int = 16
    scale: int = 4
    reparam: bool = False
    prune_channels: float = 0.0
    dtype: Any = jnp.float32

    lookahead: ClassVar[int] = 1  # later frames that a frame depends on
    clip: ClassVar[bool] = True  # whether the image is clipped, also in training
    nearest: ClassVar[bool] = False  # interpolation of the global skip connection

    def __post_init__(self) -> None:
        if not 0 <= self.prune_channels < 1:
            raise ValueError(
                f"prune_channels={self.prune_channels} must be a fraction, at least 0 and below 1"
            )
        super().__post_init__()

    @property
    def convs(self) -> Convs:
        """Factory of the network's convolutions."""
        return Convs(self.dtype, self.reparam, self.prune_channels)

    def add_residual(
        self, frames: Float[Array, "*n h w 3"], residual: Float[Array, "*n h w _"]
    ) -> Float32[Array, "*n {self.scale}*h {self.scale}*w 3"]:
        """`add_residual` with this network's settings."""
        return add_residual(frames, residual, self.scale, clip=self.clip, nearest=self.nearest)


class Windowed(Mobile):
    """A network without recurrence: `residual` maps a window of frames to a residual image."""

    def residual(
        self, frames: Sequence[Float[Array, "b *t h w 3"]], train: bool
    ) -> Float[Array, "b *t h w _"]:
        """Predicts the residual image.

        Args:
            frames: the previous, the current and `lookahead` next frames, each (b, t, h, w, 3) or
                (b, h, w, 3) in 0..255.
            train: whether batch statistics are used and updated.

        Returns:
            (b, t, h, w, scale*scale*c) or (b, h, w, scale*scale*c) in 0..255.
        """
        raise NotImplementedError

    def __call__(
        self, lq: Float[AnyArray, "b t h w 3"], train: bool = False
    ) -> Float32[Array, "b t {self.scale}*h {self.scale}*w 3"]:
        """Upsamples lq (b, t, h, w, 3) RGB in [0, 1] to (b, t, scale*h, scale*w, 3) float32."""
        lq = check_lq(lq)
        return self._upsample(gather_neighbors(lq, self.lookahead), train)

    def initial_state(self, shape: tuple[int, ...]) -> tuple[()]:
        """The empty state."""
        return ()

    def step(
        self, state: tuple[()], frames: Float[Array, "b n h w 3"]
    ) -> tuple[Float32[Array, "b {self.scale}*h {self.scale}*w 3"], tuple[()]]:
        """Upsamples one frame of a stream, as `Recurrent.step`."""
        return self._upsample(jnp.split(frames, frames.shape[1], axis=1), False)[:, 0], state

    def _upsample(self, frames: Sequence[Array], train: bool) -> Array:
        residual = self.residual([PEAK * frame for frame in frames], train)
        return self.add_residual(frames[1], residual)


class Recurrent(Mobile):
    """A recurrent network: `cell` maps the frames of a step and a hidden state to a residual image.

    Attributes:
        unroll: frames per iteration of the compiled loop.
    """

    unroll: int = 1

    hidden_ratio: ClassVar[int] = 2  # channels of the hidden state, relative to `dim`

    def make_cell(self) -> nn.Module:
        """Makes the cell.

        Returns:
            A module with arguments hidden (b, h, w, hidden_ratio*dim), step () int32, frames (the
            previous, the current and `lookahead` next frames, each (b, h, w, 3) in 0..255), and
            train. It returns the next hidden state and the residual image (b, h, w,
            scale*scale*c).
        """
        raise NotImplementedError

    def setup(self) -> None:
        self.cell = self.make_cell()

    def __call__(
        self, lq: Float[AnyArray, "b t h w 3"], train: bool = False
    ) -> Float32[Array, "b t {self.scale}*h {self.scale}*w 3"]:
        """Upsamples lq (b, t, h, w, 3) RGB in [0, 1] to (b, t, scale*h, scale*w, 3) float32."""
        lq = check_lq(lq)
        windows = [PEAK * frames for frames in gather_neighbors(lq, self.lookahead)]
        state = self.initial_state(lq[:, 0].shape)
        if self.is_initializing():  # moving statistics must exist before the loop carries them
            self.cell(state, jnp.zeros((), jnp.int32), [x[:, 0] for x in windows], train=False)
        _, residual = scan_frames(self.cell, state, windows, unroll=self.unroll, train=train)
        return self.add_residual(lq, residual)

    def initial_state(self, shape: tuple[int, ...]) -> Float[Array, "b h w hidden"]:
        """Zero hidden state for frames of shape (b, h, w, 3)."""
        return jnp.zeros((*shape[:3], self.hidden_ratio * self.dim), self.dtype)

    def step(
        self, state: Float[Array, "b h w hidden"], frames: Float[Array, "b n h w 3"]
    ) -> tuple[Float32[Array, "b {self.scale}*h {self.scale}*w 3"], Float[Array, "b h w hidden"]]:
        """Upsamples one frame of a stream.

        Args:
            state: from `initial_state` or the previous step.
            frames: (b, 2 + lookahead, h, w, 3) RGB in [0, 1]: the previous, the current and, with
                lookahead 1, the next frame. The first frame is its own predecessor, the last one
                its own successor.

        Returns:
            (b, scale*h, scale*w, 3) float32, and the next state.
        """
        window = list(jnp.unstack(PEAK * frames, axis=1))
        state, residual = self.cell(state, jnp.zeros((), jnp.int32), window, train=False)
        return self.add_residual(frames[:, 1], residual), state
