"""Degradations that change the size of frames: bicubic, BD, and OpenCV's resize."""

import math

import numpy as np
from jaxtyping import Shaped

from jaxvsr.data.degradations import taps
from jaxvsr.data.degradations.common import (
    Array,
    as_dtype_of,
    as_matlab,
    check_frames,
    positive,
    round_half_up,
    to_float,
)


def imresize(
    frames: Shaped[np.ndarray, "*b h w c"], scale: float
) -> Shaped[np.ndarray, "*b H W c"]:
    """Resizes frames by antialiased bicubic interpolation, bit for bit as MATLAB's imresize.

    Args:
        frames: (..., h, w, c), uint8, or float with a nominal range of [0, 1].
        scale: factor > 0 on both axes, such as 1/4 or 4.

    Returns:
        (..., ceil(h*scale), ceil(w*scale), c) of the same dtype: uint8 rounded once at the end
        (half up) and clipped, float neither rounded nor clipped.

    Raises:
        TypeError: frames are neither uint8 nor floating point.
        ValueError: frames of another shape or empty, or scale is not a positive number.

    Source: MATLAB, imresize(im2double(A), scale, "bicubic"); Keys, "Cubic convolution
    interpolation for digital image processing", 1981, with a = -1/2.
    """
    frames = np.asarray(frames)
    check_frames(frames)
    check_scale(scale)
    h, w = frames.shape[-3:-1]
    # Float32 in [0, 1], as other implementations compute: values within rounding errors of a half
    # then become the same byte as in the public data sets.
    small = _resample(
        to_float(frames), taps.matlab_bicubic(h, scale), taps.matlab_bicubic(w, scale)
    )
    return as_matlab(frames, small)


def blur_downsample(
    frames: Shaped[np.ndarray, "*b H W c"], kind: str, scale: int = 4
) -> Shaped[np.ndarray, "*b h w c"]:
    """Blurs frames by a Gaussian and keeps every scale-th pixel: one of three kinds of "BD".

    The kinds place the output pixels differently, by fractions of a pixel. A network loses about
    10 dB on another kind than the one it was trained on.

    Args:
        frames: (..., h, w, c), uint8, or float of any range.
        kind: position of output i, size and sigma of the kernel, and the border:
            "bd": at s*i + (s-1)/2, 12x12, sigma 1.6, the border repeated; BasicVSR, VRT, RVRT.
            "duf": at s*i, 13x13, sigma 0.4*s, mirrored at the border's pixels; DUF.
            "tecogan": at s*i, 9x9, sigma 1.5, mirrored likewise; FRVSR, TecoGAN.
        scale: s; 4, or also 2 and 3 for "duf".

    Returns:
        (..., h/s, w/s, c) of the same dtype; sizes are rounded down for "bd" and up for the others.
        uint8 is rounded half up.

    Raises:
        TypeError: frames are neither uint8 nor floating point.
        ValueError: an unknown kind, a scale that the kind is not defined for, or frames of another
            shape, empty, or smaller than an output pixel.

    Source: "bd": MATLAB, the authors' script of BasicVSR, fspecial and imfilter(..., "replicate");
    Jo et al., "Deep video super-resolution network using dynamic upsampling filters", 2018;
    Sajjadi et al., "Frame-recurrent video super-resolution", 2018, section 4.1.
    """
    frames = np.asarray(frames)
    check_frames(frames)
    check_blur(frames, kind, scale)
    h, w = frames.shape[-3:-1]
    rows, columns = taps.gaussian(h, kind, scale), taps.gaussian(w, kind, scale)
    if frames.dtype != np.uint8:
        return _resample(to_float(frames), rows, columns).astype(frames.dtype)
    # An edge at the center of the "bd" kernel gives the mean of two bytes. Rounded to float32 it is
    # an exact tie and goes up, whatever the order of the additions.
    bytes_ = _resample(frames.astype(np.float64), rows, columns).astype(np.float32)
    return round_half_up(bytes_)


def mod_crop(frames: Shaped[np.ndarray, "*b h w c"], scale: int) -> Shaped[np.ndarray, "*b _ _ c"]:
    """Crops rows at the bottom and columns at the right to a size that the scale divides.

    Targets are cropped before they are degraded, so that a target is exactly scale times its input.

    Args:
        frames: (..., h, w, c).
        scale: a positive integer.

    Returns:
        (..., h - h % scale, w - w % scale, c), a view.

    Raises:
        ValueError: frames are smaller than the scale.
    """
    h, w = (side - side % scale for side in frames.shape[-3:-1])
    if not h or not w:
        raise ValueError(f"frames of shape {frames.shape} are smaller than the scale {scale}")
    return frames[..., :h, :w, :]


def resize(
    frames: Shaped[np.ndarray, "*b h w c"], size: tuple[int, int], method: str
) -> Shaped[np.ndarray, "*b {size[0]} {size[1]} c"]:
    """Resizes frames as OpenCV does, without antialiasing, which is part of the degradation.

    Args:
        frames: (..., h, w, c), uint8, or float with a nominal range of [0, 1].
        size: (h, w) of the result, pixels.
        method: "bilinear", "bicubic" or "area" (the mean over the area of an output pixel).

    Returns:
        (..., *size, c) of the same dtype.

    Raises:
        TypeError: frames are neither uint8 nor floating point.
        ValueError: frames of another shape or empty, an empty size, or an unknown method.
    """
    frames = np.asarray(frames)
    check_frames(frames)
    if method not in ("bilinear", "bicubic", "area"):
        raise ValueError(f"method must be 'bilinear', 'bicubic' or 'area', got {method!r}")
    if min(size) < 1:
        raise ValueError(f"size must have pixels, got {size}")
    h, w = frames.shape[-3:-1]
    rows, columns = taps.opencv(h, size[0], method), taps.opencv(w, size[1], method)
    return as_dtype_of(frames, _resample(to_float(frames), rows, columns))


def check_scale(scale: float) -> None:
    """Raises ValueError unless scale is a positive, finite number."""
    if not positive(scale):
        raise ValueError(f"scale must be a positive number, got {scale}")


def check_blur(frames: Array, kind: str, scale: int) -> None:
    """Raises ValueError unless a kind of BD is defined for a scale and frames (..., h, w, c)."""
    if kind not in taps.BLURS:
        kinds = ", ".join(f"{name!r} ({blur.used_by})" for name, blur in taps.BLURS.items())
        raise ValueError(f"unknown kind of blur {kind!r}; expected one of: {kinds}")
    scales = taps.BLURS[kind].scales
    if scale not in scales:
        raise ValueError(f"{kind!r} is defined for scales {scales}, got {scale}")
    if min(frames.shape[-3:-1]) < scale:
        raise ValueError(f"frames of shape {frames.shape} are smaller than the scale {scale}")


def _resample(x: np.ndarray, rows: taps.Taps, columns: taps.Taps) -> np.ndarray:
    """Resamples float (..., h, w, c) along the height, then along the width."""
    *lead, h, w, c = x.shape
    x = x.reshape(-1, h, w, c)
    x = _resample_first(x.transpose(1, 0, 2, 3), rows)
    x = _resample_first(x.transpose(2, 1, 0, 3), columns)
    x = x.transpose(1, 2, 0, 3)
    return x.reshape(*lead, *x.shape[1:])


def _resample_first(x: np.ndarray, axis_taps: taps.Taps) -> np.ndarray:
    """Resamples the first axis of x (size, ...).

    Adds tap by tap and without BLAS, in the same order on every machine.
    """
    sources, weights = axis_taps
    rows = np.ascontiguousarray(x).reshape(len(x), math.prod(x.shape[1:]))
    total = np.zeros((sources.shape[1], rows.shape[1]), x.dtype)
    term = np.empty_like(total)
    for source, weight in zip(sources, weights, strict=True):
        np.take(rows, source, axis=0, out=term, mode="clip")
        term *= weight[:, None].astype(x.dtype)
        total += term
    return total.reshape(len(total), *x.shape[1:])
