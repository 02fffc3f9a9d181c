"""Random changes of brightness, contrast and color, blur and noise, as for optical flow."""

import jax
import jax.numpy as jnp


def photometric_changes(frames: jax.Array, key: jax.Array) -> jax.Array:
    """Changes clips as cameras and codecs do, on the device.

    Most of a change of brightness, contrast and color is shared by the frames of a clip; a little
    of it is a frame's own. Half of the clips are blurred, half get noise of up to 10 of 255 levels.

    Args:
        frames: (b, t, h, w, 3) in [0, 1].
        key: draws everything.

    Returns:
        The same, clipped to [0, 1].
    """
    b, t = frames.shape[:2]
    keys = jax.random.split(key, 9)
    normal, uniform = jax.random.normal, jax.random.uniform

    def drawn(
        shared: jax.Array, own: jax.Array, channels: int, both: float, one: float
    ) -> jax.Array:
        """Draws (b, t, 1, 1, channels) normally."""
        x = both * normal(shared, (b, 1, 1, 1, channels))
        return x + one * normal(own, (b, t, 1, 1, channels))

    contrast = jnp.exp(drawn(keys[0], keys[1], 1, 0.2, 0.01))
    color = jnp.exp(drawn(keys[2], keys[3], 3, 0.08, 0.005))
    brightness = drawn(keys[4], keys[5], 1, 0.1, 0.005)
    mean = frames.mean((1, 2, 3, 4), keepdims=True)
    frames = (frames - mean) * contrast * color + mean + brightness

    # A blur by (a, 1 - 2a, a) in each direction, of half of the clips.
    a = uniform(keys[6], (b, 1, 1, 1, 1), maxval=0.3)
    a = jnp.where(a < 0.15, 0.0, 2 * (a - 0.15))
    for axis in (2, 3):
        pads = [(0, 0)] * axis + [(1, 1)] + [(0, 0)] * (4 - axis)
        padded = jnp.pad(frames, pads, mode="edge")
        size = frames.shape[axis]
        before, after = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in (0, 2))
        frames = (1 - 2 * a) * frames + a * (before + after)

    level = jnp.maximum(uniform(keys[7], (b, 1, 1, 1, 1), minval=-0.04, maxval=0.04), 0)
    return jnp.clip(frames + level * normal(keys[8], frames.shape), 0, 1)
