"""Naturalness image quality evaluator: a score without a reference."""

import dataclasses
import functools
import os
from collections.abc import Iterable

import numpy as np
import scipy.io
from scipy.ndimage import correlate1d
from scipy.special import gamma

from jaxvsr.metrics.color import prepare
from jaxvsr.metrics.threads import by_frame

BLOCK = 96
FEATURES = 36
# Names of the mean and the covariance, in BasicSR's .npz and in the authors' .mat.
KEYS = {".npz": ("mu_pris_param", "cov_pris_param"), ".mat": ("mu_prisparam", "cov_prisparam")}


@dataclasses.dataclass(frozen=True, eq=False)
class NiqeParameters:
    """The statistics of pristine images' blocks.

    Attributes:
        mean: (36,) float64, of the blocks' features.
        covariance: (36, 36) float64.

    Raises:
        ValueError: other shapes, or numbers that are not finite.
    """

    mean: np.ndarray
    covariance: np.ndarray

    def __post_init__(self) -> None:
        for name, shape in (("mean", (FEATURES,)), ("covariance", (FEATURES, FEATURES))):
            value = getattr(self, name)
            if value.shape != shape:
                raise ValueError(f"NIQE's {name} is to be {shape}, but it is {value.shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"NIQE's {name} has values that are not finite")


def read_niqe_parameters(path: str | os.PathLike[str]) -> NiqeParameters:
    """Reads published pristine parameters.

    Args:
        path: BasicSR's `niqe_pris_params.npz`, or `modelparameters.mat` of the authors' release.

    Raises:
        OSError: no such file.
        ValueError: another kind of file, or one that lacks the parameters or has others.
    """
    path = os.fspath(path)
    kind = os.path.splitext(path)[1]
    if kind not in KEYS:
        raise ValueError(f"{path} is neither .npz nor .mat: NIQE's parameters are read from these")
    if kind == ".npz":
        with np.load(path) as file:
            stored = dict(file)
    else:
        stored = scipy.io.loadmat(path)
    missing = [key for key in KEYS[kind] if key not in stored]
    if missing:
        raise ValueError(
            f"{path} lacks {missing}: NIQE's parameters are {list(KEYS[kind])}, it has "
            f"{sorted(key for key in stored if not key.startswith('__'))}"
        )
    mean, covariance = (np.asarray(stored[key], np.float64) for key in KEYS[kind])
    try:
        return NiqeParameters(mean[0] if mean.shape == (1, FEATURES) else mean, covariance)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def fit_niqe(frames: Iterable[np.ndarray], sharpness: float = 0.75) -> NiqeParameters:
    """Fits the parameters to pristine images; the published ones are of 125 photographs.

    Args:
        frames: each (h, w, 3) RGB, uint8, or float in [0, 1], which is rounded to 8 bits. Sizes
            may differ.
        sharpness: only blocks count whose mean local deviation is above this share of the sharpest
            block's of the same image.

    Raises:
        ValueError: an image smaller than a block, or fewer than two blocks to count.

    Source: Mittal et al., "Making a completely blind image quality analyzer", sections II-B, II-C.
    """
    kept = [np.empty((0, FEATURES))]
    for i, frame in enumerate(frames):
        try:
            if frame.ndim != 3:
                raise ValueError(f"it must be (h, w, 3), got shape {frame.shape}")
            features, sharp = _blocks(_luma(frame, 0))
        except ValueError as error:
            raise ValueError(f"image {i}: {error}") from error
        kept.append(features[sharp > sharpness * sharp.max()])
    features = _usable(np.concatenate(kept))
    if len(features) < 2:
        raise ValueError(f"{len(kept) - 1} images gave {len(features)} blocks to fit: give more")
    return NiqeParameters(features.mean(0), np.cov(features, rowvar=False))


def niqe(frames: np.ndarray, parameters: NiqeParameters, crop: int = 0) -> np.ndarray:
    """NIQE of each frame: how far its statistics are from those of pristine images.

    Computed on rounded luma, in float32 as in the usual code, which moves the third decimal; the
    distance itself is float64.

    Args:
        frames: (..., h, w, 3) RGB, uint8, or float in [0, 1], which is rounded to 8 bits.
        parameters: of `read_niqe_parameters` or `fit_niqe`.
        crop: border that is not scored, pixels; what then is beyond whole blocks of 96x96 at the
            right and at the bottom is not scored either.

    Returns:
        (...) float64 >= 0, less is better; NaN where fewer than two blocks have any texture.

    Raises:
        ValueError: frames of fewer than two blocks, or a crop that leaves nothing.

    Source: Mittal et al., "Making a completely blind image quality analyzer", section II; BasicSR's
        calculate_niqe.
    """
    return by_frame(functools.partial(_frame, parameters=parameters, crop=crop), frames)


def _frame(frame: np.ndarray, parameters: NiqeParameters, crop: int) -> float:
    """NIQE of a frame (h, w, 3)."""
    features, _ = _blocks(_luma(frame, crop))
    if len(features) < 2:
        raise ValueError(f"one block of {BLOCK}x{BLOCK} has no covariance: NIQE needs two")
    usable = _usable(features)
    if len(usable) < 2:
        return np.nan
    # A block whose shape is undefined still counts in the means of its other features.
    difference = parameters.mean - np.nanmean(features, 0)
    covariance = (parameters.covariance + np.cov(usable, rowvar=False)) / 2
    return np.sqrt(difference @ np.linalg.pinv(covariance) @ difference)


def _luma(frame: np.ndarray, crop: int) -> np.ndarray:
    """The rounded luma of a frame (h, w, 3): (h, w) float32 on the scale of 0..255."""
    return np.round(prepare(frame, crop, "y")[..., 0].astype(np.float32))


def _usable(features: np.ndarray) -> np.ndarray:
    """The rows without NaN."""
    return features[~np.isnan(features).any(1)]


def _blocks(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (blocks, 36) float64 and sharpness (blocks,) of whole blocks of luma (h, w)."""
    h, w = (size // BLOCK * BLOCK for size in luma.shape)
    if not h * w:
        raise ValueError(
            f"{luma.shape[0]}x{luma.shape[1]} pixels are less than NIQE's block of {BLOCK}x{BLOCK}"
        )
    luma = luma[:h, :w]
    fine, deviation = _normalise(luma)
    coarse, _ = _normalise(_halve(luma))
    features = [_features(_split(fine, BLOCK)), _features(_split(coarse, BLOCK // 2))]
    return np.concatenate(features, 1), _split(deviation, BLOCK).mean((1, 2))


def _split(x: np.ndarray, size: int) -> np.ndarray:
    """(h, w) as squares (blocks, size, size), from top to bottom first, then to the right."""
    x = x.reshape(x.shape[0] // size, size, x.shape[1] // size, size)
    return x.transpose(2, 0, 1, 3).reshape(-1, size, size)


def _halve(luma: np.ndarray) -> np.ndarray:
    """(h, w) of even sizes at half the size, as MATLAB's antialiased bicubic has it.

    At this scale, its eight taps are the same for each pixel.
    """
    taps = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    x = luma / np.float32(255)
    for axis in (0, 1):
        # Of an even filter, scipy's middle is the right one of the two.
        x = correlate1d(x, taps, axis, mode="reflect")
        x = x[1::2] if axis == 0 else x[:, 1::2]
    return x * np.float32(255)


def _normalise(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luma (h, w) less its local mean, in units of its local deviation; and the deviation."""
    mean = _blur(x)
    deviation = np.sqrt(np.abs(_blur(x**2) - mean**2))
    return (x - mean) / (deviation + 1), deviation


def _blur(x: np.ndarray) -> np.ndarray:
    """The mean of (h, w) under a 7x7 Gaussian of sigma 7/6, rounded to float32 once."""
    taps = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    taps /= taps.sum()
    x = correlate1d(x, taps, 0, np.float64, mode="nearest")
    return correlate1d(x, taps, 1, mode="nearest").astype(np.float32)


def _features(blocks: np.ndarray) -> np.ndarray:
    """What is fitted to blocks (n, size, size), and to products of neighbours: (n, 18)."""
    shape, left, right = _fit(blocks)
    features = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = _fit(blocks * np.roll(blocks, shift, (1, 2)))
        mean = (right - left) * gamma(2 / shape) / gamma(1 / shape)
        features += [shape, mean, left, right]
    return np.stack(features, 1)


def _fit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits an asymmetric generalised Gaussian to each of (n, size, size), by moments.

    Returns:
        Its shape, and its scales left and right of zero, each (n,) float64; NaN where a side is
        empty.

    Source: Lasmar et al., "Multiscale skewed heavy tailed model for texture analysis".
    """
    x = x.reshape(len(x), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        square = np.square(x)
        left, right = (
            np.sqrt((square * side).sum(1, np.float64) / side.sum(1)) for side in (x < 0, x > 0)
        )
        ratio = left / right
        moments = np.abs(x).mean(1) ** 2 / square.mean(1)
    moments = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, moments_of = _shapes()
    nearest = np.abs(moments_of - moments[:, None]).argmin(1)
    shape = np.where(np.isnan(moments), np.nan, shapes[nearest])
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale


@functools.cache
def _shapes() -> tuple[np.ndarray, np.ndarray]:
    """The shapes that are tried, and the ratio of moments of each."""
    shapes = np.arange(0.2, 10.001, 0.001)
    return shapes, gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))
