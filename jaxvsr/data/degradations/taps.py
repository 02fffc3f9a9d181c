"""Filter taps for resizing along one axis: source indices and weights.

All resizing here is separable and treats both axes alike, so that taps describe it completely. They
are computed by NumPy once per size; both backends use them.
"""

import dataclasses
import functools
import math

import numpy as np
from jaxtyping import Float64

from jaxvsr.data.degradations.common import reflect
from jaxvsr.pixels import cubic_kernel

# Source indices (taps, out) int64 and weights (taps, out) float64.
Taps = tuple[np.ndarray, np.ndarray]


@functools.lru_cache(maxsize=256)
def matlab_bicubic(size: int, scale: float) -> Taps:
    """Computes the taps of MATLAB's imresize for an axis: ceil(size*scale) outputs."""
    shrink = min(scale, 1.0)
    # The nominal scale, not out/size, places the samples. Where it does not divide the size, the
    # last output then reaches beyond the border, as in MATLAB.
    out = math.ceil(size * scale)
    center = np.arange(1, out + 1) / scale + 0.5 * (1 - 1 / scale)
    tap = np.floor(center - 2 / shrink) + np.arange(math.ceil(4 / shrink) + 2)[:, None]
    weight = cubic_kernel(shrink * (center - tap), -0.5)
    weight /= weight.sum(axis=0)
    used = weight.any(axis=1)
    mirror = np.concatenate([np.arange(size), np.arange(size)[::-1]])
    return mirror[(tap[used].astype(np.int64) - 1) % (2 * size)], weight[used]


@dataclasses.dataclass(frozen=True)
class Blur:
    """A kind of "BD": Gaussian blur, then every scale-th pixel.

    Attributes:
        taps: kernel size.
        sigma: of the Gaussian, in input pixels per unit of scale.
        scales: for which the kind is defined.
        used_by: systems and data sets that use it.
    """

    taps: int
    sigma: float
    scales: tuple[int, ...]
    used_by: str


BLURS = {
    "bd": Blur(12, 0.4, (4,), "BasicVSR, IconVSR, BasicVSR++, VRT, RVRT"),
    "duf": Blur(13, 0.4, (2, 3, 4), "DUF and BasicSR's duf_downsample"),
    "tecogan": Blur(9, 0.375, (4,), "FRVSR and TecoGAN"),
}


@functools.lru_cache(maxsize=256)
def gaussian(size: int, kind: str, scale: int) -> Taps:
    """Computes the taps of a kind of BLURS for an axis.

    "bd" has floor(size/scale) outputs, the others have ceil(size/scale).
    """
    blur = BLURS[kind]
    sigma = blur.sigma * scale
    offset = np.arange(blur.taps) - (blur.taps - 1) / 2
    weight = np.exp(-(offset**2) / (2 * sigma**2))
    if kind == "duf":  # its kernel is a filtered impulse, cut off at four sigma
        weight[np.abs(offset) > math.floor(4 * sigma + 0.5)] = 0
    weight /= weight.sum()
    if kind == "bd":
        center = (scale - 1) / 2 + scale * np.arange(size // scale)
        source = np.clip(center + offset[:, None], 0, size - 1)
    else:
        center = np.arange(0, size, scale, dtype=np.float64)
        source = reflect(center + offset[:, None], size)
    return source.astype(np.int64), np.tile(weight[:, None], len(center))


@functools.lru_cache(maxsize=256)
def opencv(size: int, out: int, method: str) -> Taps:
    """Computes the taps of OpenCV's resize, which does not antialias, for an axis.

    Args:
        size, out: input and output length, pixels.
        method: "bilinear", "bicubic" (with a = -3/4) or "area" (the mean over the area of an output
            pixel; OpenCV's own rounding misses some pixels when it upsamples).
    """
    step = size / out
    if method == "area":
        edges = np.arange(out + 1) * step
        tap = np.floor(edges[:-1]) + np.arange(math.ceil(step) + 1)[:, None]
        covered = np.minimum(tap + 1, edges[1:]) - np.maximum(tap, edges[:-1])
        weight = np.maximum(covered, 0) / step
    else:
        center = (np.arange(out) + 0.5) * step - 0.5
        reach = 1 if method == "bilinear" else 2
        tap = np.floor(center) + np.arange(1 - reach, reach + 1)[:, None]
        distance = np.abs(center - tap)
        weight = np.maximum(1 - distance, 0) if reach == 1 else cubic_kernel(distance, -0.75)
    return np.clip(tap, 0, size - 1).astype(np.int64), weight


def matrix(taps: Taps, size: int) -> Float64[np.ndarray, "out {size}"]:
    """Converts taps to a matrix (out, size) float64."""
    source, weight = taps
    dense = np.zeros((source.shape[1], size))
    np.add.at(dense, (np.arange(source.shape[1]), source), weight)
    return dense
