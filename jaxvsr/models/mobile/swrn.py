"""SWRN, the sliding-window recurrent network for phones.

Source: Lian and Lian, "Sliding Window Recurrent Network for Efficient Video Super-Resolution",
AIM workshop at ECCV 2022.
"""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.layers.blocks import Conv
from jaxvsr.layers.propagation import scan_frames
from jaxvsr.layers.upsample import depth_to_space, resize

PEAK = 255.0  # the published weights take and give values in 0..255


class SWRNCell(nn.Module):
    """One frame: the frames before and after it meet it in two branches, then all three fuse.

    Attributes:
        dim: channels.
        num_blocks: convolutions of each of the three trunks.
        scale: upsampling factor.
        dtype: of the computation.
    """

    dim: int
    num_blocks: int
    scale: int
    dtype: Any

    @nn.compact
    def __call__(
        self, hidden: jax.Array, step: jax.Array, frames: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """hidden (b, h, w, 2*dim), frames (b, 3, h, w, 3) previous, current and next, in 0..255
        -> the next hidden state, and the residual image (b, h, w, scale*scale*3)."""
        previous, current, following = (frames[:, i] for i in range(3))
        conv = functools.partial(
            Conv,
            kernel_size=(3, 3),
            kernel_init=nn.initializers.glorot_uniform(),
            dtype=self.dtype,
        )

        def trunk(x: jax.Array, name: str) -> jax.Array:
            for i in range(self.num_blocks):
                init = nn.initializers.glorot_normal()
                x = nn.relu(conv(self.dim, kernel_init=init, name=f"trunk_{name}_{i}")(x))
            return x

        def branch(neighbour: jax.Array, hidden: jax.Array, name: str):
            x = jnp.concatenate([neighbour, current, hidden], axis=-1)
            x = nn.relu(conv(self.dim, name=f"conv_first_{name}")(x))
            x = trunk(x, name)
            return x, conv(self.dim, name=f"conv_hidden_{name}")(x)

        hidden_forward, hidden_backward = jnp.split(hidden, 2, axis=-1)
        x_forward, hidden_forward = branch(previous, hidden_forward, "forward")
        x_backward, hidden_backward = branch(following, hidden_backward, "backward")
        x = jnp.concatenate([x_forward, x_backward], axis=-1)
        x = nn.relu(conv(self.dim, name="conv_fusion")(x))
        x = trunk(x, "fusion")
        x = conv(3 * self.scale**2, name="conv_last")(x)
        return jnp.concatenate([hidden_forward, hidden_backward], axis=-1), x


class SWRN(nn.Module):
    """Recurrent over the clip, with one frame of look-ahead; the ends repeat their frame.

    Attributes:
        dim: channels.
        num_blocks: convolutions of each trunk.
        scale: upsampling factor.
        dtype: of the computation; the image is float32.
        unroll: frames that are compiled into one turn of the recurrence.
    """

    dim: int = 16
    num_blocks: int = 3
    scale: int = 4
    dtype: Any = jnp.float32
    unroll: int = 1

    lookahead: ClassVar[int | None] = 1

    def setup(self) -> None:
        self.cell = SWRNCell(self.dim, self.num_blocks, self.scale, self.dtype)

    def __call__(self, lq: jax.Array, train: bool = False) -> jax.Array:
        """lq (b, t, h, w, 3) RGB in [0, 1] -> (b, t, scale*h, scale*w, 3) float32, not clipped."""
        padded = jnp.concatenate([lq[:, :1], lq, lq[:, -1:]], axis=1)
        windows = jnp.stack([padded[:, :-2], lq, padded[:, 2:]], axis=2)  # (b, t, 3, h, w, 3)
        state = self.initial_state(lq[:, 0].shape)
        _, residual = scan_frames(self.cell, state, PEAK * windows, unroll=self.unroll)
        return self.reconstruct(lq, residual)

    def initial_state(self, shape: tuple[int, ...]) -> jax.Array:
        """The hidden state (b, h, w, 2*dim) before the first of frames of shape (b, h, w, 3)."""
        return jnp.zeros((*shape[:3], 2 * self.dim), self.dtype)

    def step(self, state: jax.Array, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Restores one frame of a stream.

        Args:
            state: (b, h, w, 2*dim), from `initial_state` or the step before.
            frames: (b, 3, h, w, 3) RGB in [0, 1]: the previous, the current and the next frame.
                The first frame is its own predecessor, the last one its own successor.

        Returns:
            (b, scale*h, scale*w, 3) float32, not clipped, and the next state.
        """
        state, residual = self.cell(state, jnp.zeros((), jnp.int32), PEAK * frames)
        return self.reconstruct(frames[:, 1], residual), state

    def reconstruct(self, frames: jax.Array, residual: jax.Array) -> jax.Array:
        """(..., h, w, 3) and (..., h, w, scale*scale*3) in 0..255 -> (..., scale*h, scale*w, 3)."""
        height, width = (self.scale * side for side in frames.shape[-3:-1])
        base = resize(frames.astype(jnp.float32), (height, width))
        return base + depth_to_space(residual.astype(jnp.float32), self.scale) / PEAK
