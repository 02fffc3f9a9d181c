"""What the mobile networks share around their blocks: neighbouring frames, enlargement, streams.

A frame is restored from itself, the frame before it and, with a look-ahead of one, the frame after
it; the ends of a clip repeat their frame. The networks work on values in 0..255.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.layers.propagation import scan_frames
from jaxvsr.layers.upsample import depth_to_space, resize
from jaxvsr.models.mobile.reparam import Convs

PEAK = 255.0


def with_neighbours(lq: jax.Array, lookahead: int) -> list[jax.Array]:
    """(b, t, ...) -> the frame before each frame, itself and, if `lookahead` is 1, the one after;
    each (b, t, ...)."""
    before = jnp.concatenate([lq[:, :1], lq[:, :-1]], axis=1)
    after = jnp.concatenate([lq[:, 1:], lq[:, -1:]], axis=1)
    return [before, lq, after][: 2 + lookahead]


def enlarge(
    frames: jax.Array, residual: jax.Array, scale: int, *, clip: bool, nearest: bool = False
) -> jax.Array:
    """What a network learnt to add, on the plainly enlarged frame.

    Args:
        frames: (..., h, w, 3) RGB in [0, 1].
        residual: (..., h, w, scale*scale*c) in 0..255, c = 3, or 1 for a map that R, G and B share.
        scale: upsampling factor.
        clip: whether the image is clipped to [0, 1], as some networks are trained.
        nearest: repeats pixels instead of interpolating between them.

    Returns:
        (..., scale*h, scale*w, 3) float32.
    """
    frames = PEAK * frames.astype(jnp.float32)
    height, width = (scale * side for side in frames.shape[-3:-1])
    if nearest:
        base = frames.repeat(scale, axis=-3).repeat(scale, axis=-2)
    else:
        base = resize(frames, (height, width))
    # The sum comes before the quotient: where a product is added, one rounding or two may be made,
    # and a stream would differ from the whole clip.
    sr = (base + depth_to_space(residual.astype(jnp.float32), scale)) / PEAK
    return jnp.clip(sr, 0, 1) if clip else sr


class Mobile(nn.Module):
    """A network for phones.

    Attributes:
        dim: channels.
        scale: upsampling factor.
        reparam: whether its convolutions are trained as parallel branches; `convolution.fuse`.
        dtype: of the computation; the image is float32.
    """

    dim: int = 16
    scale: int = 4
    reparam: bool = False
    dtype: Any = jnp.float32

    lookahead: ClassVar[int] = 1  # future frames that a frame needs
    clip: ClassVar[bool] = True  # whether the image is clipped, in training too
    nearest: ClassVar[bool] = False  # what the residual is added to

    @property
    def convs(self) -> Convs:
        """How the convolutions are made."""
        return Convs(self.dtype, self.reparam)

    def enlarge(self, frames: jax.Array, residual: jax.Array) -> jax.Array:
        """(..., h, w, 3) in [0, 1], (..., h, w, scale*scale*c) -> (..., scale*h, scale*w, 3)."""
        return enlarge(frames, residual, self.scale, clip=self.clip, nearest=self.nearest)


class Windowed(Mobile):
    """A network without memory: `restore` sees the frames of a window."""

    def restore(self, frames: Sequence[jax.Array], train: bool) -> jax.Array:
        """The frame before, the current one and `lookahead` after it, each (b, t, h, w, 3) in
        0..255 -> the residual image (b, t, h, w, scale*scale*c)."""
        raise NotImplementedError

    def __call__(self, lq: jax.Array, train: bool = False) -> jax.Array:
        """lq (b, t, h, w, 3) RGB in [0, 1] -> (b, t, scale*h, scale*w, 3) float32."""
        return self._enlarged(with_neighbours(lq, self.lookahead), train)

    def initial_state(self, shape: tuple[int, ...]) -> tuple[()]:
        """Nothing is remembered from frame to frame."""
        return ()

    def step(self, state: tuple[()], frames: jax.Array) -> tuple[jax.Array, tuple[()]]:
        """Restores one frame of a stream, as `Recurrent.step`."""
        return self._enlarged(jnp.split(frames, frames.shape[1], axis=1), False)[:, 0], state

    def _enlarged(self, frames: Sequence[jax.Array], train: bool) -> jax.Array:
        residual = self.restore([PEAK * frame for frame in frames], train)
        return self.enlarge(frames[1], residual)


class Recurrent(Mobile):
    """A network with memory, whose `cell` restores one frame and hands on a hidden state.

    Attributes:
        unroll: frames that are compiled into one turn of the recurrence.
    """

    unroll: int = 1

    hidden_ratio: ClassVar[int] = 2  # channels of the hidden state over `dim`

    def make_cell(self) -> nn.Module:
        """A module of hidden (b, h, w, hidden_ratio*dim), step () int32, frames (b, n, h, w, 3) in
        0..255 and train: -> the next hidden state and the residual (b, h, w, scale*scale*c)."""
        raise NotImplementedError

    def setup(self) -> None:
        self.cell = self.make_cell()

    def __call__(self, lq: jax.Array, train: bool = False) -> jax.Array:
        """lq (b, t, h, w, 3) RGB in [0, 1] -> (b, t, scale*h, scale*w, 3) float32."""
        windows = jnp.stack(with_neighbours(lq, self.lookahead), axis=2)  # (b, t, n, h, w, 3)
        state = self.initial_state(lq[:, 0].shape)
        if self.is_initializing():  # moving statistics that go through the loop are there before
            self.step(state, windows[:, 0])
        _, residual = scan_frames(self.cell, state, PEAK * windows, unroll=self.unroll, train=train)
        return self.enlarge(lq, residual)

    def initial_state(self, shape: tuple[int, ...]) -> jax.Array:
        """The hidden state before the first of frames of shape (b, h, w, 3)."""
        return jnp.zeros((*shape[:3], self.hidden_ratio * self.dim), self.dtype)

    def step(self, state: jax.Array, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Restores one frame of a stream.

        Args:
            state: from `initial_state` or the step before.
            frames: (b, 2 + lookahead, h, w, 3) RGB in [0, 1]: the frame before the current one,
                the current one, and what follows it. The first frame is its own predecessor, the
                last one its own successor.

        Returns:
            (b, scale*h, scale*w, 3) float32, and the next state.
        """
        state, residual = self.cell(state, jnp.zeros((), jnp.int32), PEAK * frames, train=False)
        return self.enlarge(frames[:, 1], residual), state
