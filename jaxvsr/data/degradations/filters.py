"""Filters that keep the size of frames, for NumPy and, through device.py, for JAX."""

import numpy as np
from jaxtyping import Shaped

from jaxvsr.data.degradations.common import Array, as_dtype_of, check_frames, reflect, to_float
from jaxvsr.data.degradations.kernels import gaussian_kernel


def blur(
    frames: Shaped[Array, "*b h w c"], kernel: Shaped[Array, "*k _ _"]
) -> Shaped[Array, "*b h w c"]:
    """Correlates every channel with a kernel; frames are mirrored at their border pixels.

    Args:
        frames: (..., h, w, c), uint8, or float with a nominal range of [0, 1].
        kernel: (k, k) for all frames, or (..., k, k), one per frame; k odd.

    Returns:
        (..., h, w, c) of the same dtype; uint8 rounded half to even and clipped.

    Raises:
        TypeError: frames are neither uint8 nor floating point.
        ValueError: frames without (h, w, c) axes or pixels, a kernel of even size or not square, or
            kernels that do not fit the frames' leading axes.

    Source: OpenCV's filter2D with its default border, as Real-ESRGAN and RealBasicVSR blur.
    """
    check_frames(frames)
    k = kernel.shape[-1]
    if kernel.ndim < 2 or kernel.shape[-2] != k or k % 2 == 0:
        raise ValueError(f"kernel must be (..., k, k) with odd k, got shape {kernel.shape}")
    if kernel.shape[:-2] not in ((), frames.shape[:-3]):
        raise ValueError(
            f"expected one kernel or one per frame {frames.shape}, got shape {kernel.shape}"
        )
    return as_dtype_of(frames, _correlate(to_float(frames), kernel))


def _correlate(x: Array, kernel: Array) -> Array:
    """Correlates float (..., h, w, c) with kernels (..., k, k) by the Fourier transform."""
    xp = x.__array_namespace__()
    k = kernel.shape[-1]
    h, w = x.shape[-3:-1]
    x = xp.take(x, reflect(np.arange(-(k // 2), h + k // 2), h), axis=-3)
    x = xp.take(x, reflect(np.arange(-(k // 2), w + k // 2), w), axis=-2)
    size = (h + k - 1, w + k - 1)
    kernel = xp.asarray(kernel, dtype=x.dtype)[..., None]
    # Circular correlation wraps around into the margin, which is cropped.
    spectrum = xp.fft.rfft2(x, axes=(-3, -2)) * xp.conj(xp.fft.rfft2(kernel, s=size, axes=(-3, -2)))
    return xp.fft.irfft2(spectrum, s=size, axes=(-3, -2))[..., :h, :w, :]


def usm_sharp(
    frames: Shaped[Array, "*b h w c"],
    weight: float = 0.5,
    size: int = 51,
    threshold: float = 10,
) -> Shaped[Array, "*b h w c"]:
    """Sharpens frames by unsharp masking where they differ from their blurred version.

    Recipes for real-world videos train on targets that are sharpened in this way.

    Args:
        frames: (..., h, w, c), uint8, or float in [0, 1].
        weight: of the added detail.
        size: of the Gaussian kernel, odd; its sigma is 0.15*size + 0.35 pixels.
        threshold: smallest difference that is sharpened, on the scale of 0..255.

    Returns:
        (..., h, w, c) of the same dtype.

    Raises:
        TypeError: frames are neither uint8 nor floating point.
        ValueError: frames without (h, w, c) axes or pixels, or an even size.

    Source: Wang et al., "Real-ESRGAN", 2021, section 3.4 (its code's size 50 becomes 51).
    """
    check_frames(frames)
    xp = frames.__array_namespace__()
    x = to_float(frames)
    kernel = gaussian_kernel(size, 0.15 * size + 0.35)
    residual = x - _correlate(x, kernel)
    mask = (xp.abs(residual) * 255 > threshold).astype(x.dtype)
    mask = _correlate(mask, kernel)
    sharp = xp.clip(x + weight * residual, 0, 1)
    return as_dtype_of(frames, mask * sharp + (1 - mask) * x)
