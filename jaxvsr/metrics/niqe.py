"""Naturalness image quality evaluator (NIQE), a metric without a reference."""

import dataclasses
import functools
import os
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.io
from jaxtyping import Float64
from scipy.ndimage import correlate1d
from scipy.special import gamma

from jaxvsr.metrics.color import Frames, prepare
from jaxvsr.metrics.threads import by_frame

BLOCK = 96
FEATURES = 36
MAX_BYTES = 2**20  # of a file of parameters
# Keys of the mean and the covariance, in BasicSR's .npz and in the authors' .mat.
KEYS = {".npz": ("mu_pris_param", "cov_pris_param"), ".mat": ("mu_prisparam", "cov_prisparam")}


@dataclasses.dataclass(frozen=True, eq=False)
class NiqeParameters:
    """Mean and covariance of the features of blocks of pristine images.

    Attributes:
        mean: (36,) float64.
        covariance: (36, 36) float64.

    Raises:
        ValueError: other shapes, or values that are not finite.
    """

    mean: Float64[np.ndarray, " features"]
    covariance: Float64[np.ndarray, "features features"]

    def __post_init__(self) -> None:
        for name, shape in (("mean", (FEATURES,)), ("covariance", (FEATURES, FEATURES))):
            value = getattr(self, name)
            if value.shape != shape:
                raise ValueError(f"NIQE's {name} has shape {value.shape}; expected {shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"NIQE's {name} has values that are not finite")


def read_niqe_parameters(path: str | os.PathLike[str]) -> NiqeParameters:
    """Reads official parameters of pristine images.

    Args:
        path: BasicSR's `niqe_pris_params.npz`, or the authors' `modelparameters.mat`.

    Returns:
        The parameters.

    Raises:
        OSError: no such file.
        ValueError: another kind of file, or missing or malformed parameters.
    """
    path = os.fspath(path)
    kind = os.path.splitext(path)[1]
    if kind not in KEYS:
        raise ValueError(f"{path}: expected a .npz or .mat file of NIQE's parameters")
    stored = _stored(path)
    missing = [key for key in KEYS[kind] if key not in stored]
    if missing:
        raise ValueError(
            f"{path} lacks {missing}; expected {list(KEYS[kind])}, found "
            f"{sorted(key for key in stored if not key.startswith('__'))}"
        )
    mean, covariance = (np.asarray(stored[key], np.float64) for key in KEYS[kind])
    try:
        return NiqeParameters(mean[0] if mean.shape == (1, FEATURES) else mean, covariance)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _stored(path: str) -> dict[str, Any]:
    """Reads all arrays of an .npz or .mat file, which may be any download."""
    if os.path.getsize(path) > MAX_BYTES:
        raise ValueError(f"{path} is too large for NIQE's parameters, which take 12 kB")
    try:
        if not path.endswith(".npz"):
            return scipy.io.loadmat(path)
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ValueError("it unpacks to more")
        with np.load(path) as file:
            return dict(file)
    except OSError:
        raise
    except Exception as error:  # damaged files make the libraries raise almost anything
        raise ValueError(
            f"{path} cannot be read: it is damaged, or another file under this name, such as a web "
            "page; download it again"
        ) from error


def fit_niqe(frames: Iterable[Frames], sharpness: float = 0.75) -> NiqeParameters:
    """Fits the parameters to pristine images. The authors used 125 photographs.

    Args:
        frames: each (h, w, 3) RGB, uint8, or float in [0, 1], which is rounded to 8 bits. Sizes
            may differ.
        sharpness: blocks are used if their mean local deviation exceeds this fraction of that of
            the sharpest block of the image.

    Returns:
        The parameters.

    Raises:
        ValueError: an image smaller than a block, or fewer than two usable blocks.

    Source: Mittal et al., "Making a completely blind image quality analyzer", sections II-B, II-C.
    """
    kept = [np.empty((0, FEATURES))]
    for i, frame in enumerate(frames):
        try:
            if frame.ndim != 3:
                raise ValueError(f"shape {frame.shape}; expected (h, w, 3)")
            features, sharp = _blocks(_luma(frame, 0))
        except ValueError as error:
            raise ValueError(f"image {i}: {error}") from error
        kept.append(features[sharp > sharpness * sharp.max()])
    features = _usable(np.concatenate(kept))
    if len(features) < 2:
        raise ValueError(
            f"{len(kept) - 1} images have {len(features)} usable blocks; NIQE needs at least two"
        )
    return NiqeParameters(features.mean(0), np.cov(features, rowvar=False))


def niqe(frames: Frames, parameters: NiqeParameters, crop: int = 0) -> Float64[np.ndarray, "*n"]:
    """NIQE of each frame: the distance of its statistics to those of pristine images.

    Features are computed from rounded luma in float32, as in BasicSR; this affects the third
    decimal. The distance is computed in float64.

    Args:
        frames: (..., h, w, 3) RGB, uint8, or float in [0, 1], which is rounded to 8 bits.
        parameters: from `read_niqe_parameters` or `fit_niqe`.
        crop: width of the border that is not scored, pixels. The remainder of whole blocks of
            96x96 at the right and the bottom is not scored either.

    Returns:
        (...) float64 >= 0, lower is better; NaN if fewer than two blocks have any texture.

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
        raise ValueError(f"frames hold one block of {BLOCK}x{BLOCK}; NIQE needs at least two")
    usable = _usable(features)
    if len(usable) < 2:
        return np.nan
    # A block with undefined features still contributes to the means of its other features.
    difference = parameters.mean - np.nanmean(features, 0)
    covariance = (parameters.covariance + np.cov(usable, rowvar=False)) / 2
    return np.sqrt(difference @ np.linalg.pinv(covariance) @ difference)


def _luma(frame: np.ndarray, crop: int) -> np.ndarray:
    """Rounded luma (h, w) float32 of a frame (h, w, 3), in the range 0..255."""
    return np.round(prepare(frame, crop, "y")[..., 0].astype(np.float32))


def _usable(features: np.ndarray) -> np.ndarray:
    """The rows without NaN."""
    return features[~np.isnan(features).any(1)]


def _blocks(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (blocks, 36) float64 and sharpness (blocks,) of the whole blocks of luma (h, w)."""
    h, w = (size // BLOCK * BLOCK for size in luma.shape)
    if not h * w:
        raise ValueError(
            f"frames of {luma.shape[0]}x{luma.shape[1]} are smaller than NIQE's block of "
            f"{BLOCK}x{BLOCK}"
        )
    luma = luma[:h, :w]
    fine, deviation = _normalize(luma)
    coarse, _ = _normalize(_halve(luma))
    features = [_features(_split(fine, BLOCK)), _features(_split(coarse, BLOCK // 2))]
    return np.concatenate(features, 1), _split(deviation, BLOCK).mean((1, 2))


def _split(x: np.ndarray, size: int) -> np.ndarray:
    """Splits (h, w) into blocks (n, size, size), in column-major order."""
    x = x.reshape(x.shape[0] // size, size, x.shape[1] // size, size)
    return x.transpose(2, 0, 1, 3).reshape(-1, size, size)


def _halve(luma: np.ndarray) -> np.ndarray:
    """Downsamples (h, w) of even sizes by two, as MATLAB's antialiased bicubic.

    At this scale, its eight taps are equal for all pixels.
    """
    taps = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    x = luma / np.float32(255)
    for axis in (0, 1):
        # SciPy centers a filter of even length at the right one of its two middle taps.
        x = correlate1d(x, taps, axis, mode="reflect")
        x = x[1::2] if axis == 0 else x[:, 1::2]
    return x * np.float32(255)


def _normalize(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalizes luma (h, w) by local mean and deviation; also returns the deviation."""
    mean = _blur(x)
    deviation = np.sqrt(np.abs(_blur(x**2) - mean**2))
    return (x - mean) / (deviation + 1), deviation


def _blur(x: np.ndarray) -> np.ndarray:
    """Filters (h, w) by a 7x7 Gaussian of sigma 7/6, rounding to float32 once."""
    taps = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    taps /= taps.sum()
    x = correlate1d(x, taps, 0, np.float64, mode="nearest")
    return correlate1d(x, taps, 1, mode="nearest").astype(np.float32)


def _features(blocks: np.ndarray) -> np.ndarray:
    """Features (n, 18): fits to blocks (n, size, size) and to products of neighboring pixels."""
    shape, left, right = _fit(blocks)
    features = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = _fit(blocks * np.roll(blocks, shift, (1, 2)))
        mean = (right - left) * gamma(2 / shape) / gamma(1 / shape)
        features += [shape, mean, left, right]
    return np.stack(features, 1)


def _fit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits an asymmetric generalized Gaussian to each block (n, size, size), by moments.

    Returns:
        Shape, left scale and right scale, each (n,) float64; NaN if no value is on one side.

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
    shapes, moments_of = shape_candidates()
    nearest = np.abs(moments_of - moments[:, None]).argmin(1)
    shape = np.where(np.isnan(moments), np.nan, shapes[nearest])
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale


@functools.cache
def shape_candidates() -> tuple[np.ndarray, np.ndarray]:
    """Candidate shapes, and the ratio of moments of each."""
    shapes = np.arange(0.2, 10.001, 0.001)
    return shapes, gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))
