"""Gaussian noise of a known level, and the noise map as an input channel."""

import numpy as np
from jaxtyping import Float, Shaped

from jaxvsr.data.degradations.common import Array, check_frames, per_frame, to_float


def add_noise(
    frames: Shaped[np.ndarray, "*b h w c"],
    sigma: float | Shaped[np.ndarray, "..."],
    rng: np.random.Generator,
) -> Float[np.ndarray, "*b h w c"]:
    """Adds white Gaussian noise.

    Args:
        frames: (..., h, w, c), uint8, or float in [0, 1].
        sigma: standard deviation on the scale of 0..255; one number, or one per frame.
        rng: draws the noise, independently for every value.

    Returns:
        (..., h, w, c) float, float32 for uint8; neither clipped nor rounded, as
        the official denoisers are trained and scored.

    Raises:
        TypeError: frames are neither uint8 nor floating point.
        ValueError: frames without (h, w, c) axes or pixels, or sigma of another shape.

    Source: Liang et al., "VRT", 2022, and "RVRT", 2022: denoising on DAVIS and Set8.
    """
    frames = np.asarray(frames)
    check_frames(frames)
    x = to_float(frames)
    return x + per_frame(sigma, x, "sigma") / 255 * rng.standard_normal(x.shape, dtype=np.float32)


def with_noise_map(
    frames: Float[Array, "*b h w c"], sigma: float | Shaped[Array, "..."]
) -> Float[Array, "*b h w c+1"]:
    """Appends the noise level as a channel, which the denoising VRT and RVRT take as input.

    Args:
        frames: (..., h, w, c) float, noisy, around [0, 1].
        sigma: standard deviation on the scale of 0..255; one number, or one per frame.

    Returns:
        (..., h, w, c + 1) of the same dtype; the last channel is sigma/255.

    Raises:
        TypeError: frames are neither uint8 nor floating point, or uint8: noise is not rounded.
        ValueError: frames without (h, w, c) axes or pixels, or sigma of another shape.
    """
    check_frames(frames)
    if frames.dtype == np.uint8:
        raise TypeError("noisy frames must be float: uint8 cannot hold the noise map")
    xp = frames.__array_namespace__()
    level = per_frame(sigma, frames, "sigma").astype(frames.dtype) / 255
    level = xp.broadcast_to(level, (*frames.shape[:-1], 1))
    return xp.concatenate([frames, level], axis=-1)
