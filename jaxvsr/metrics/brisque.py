"""Blind image spatial quality evaluator (BRISQUE), a metric without a reference."""

import dataclasses
import os

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from scipy.ndimage import correlate1d
from scipy.special import gamma

from jaxvsr.metrics.color import Frames, crop_border, rounded
from jaxvsr.metrics.niqe import shape_candidates
from jaxvsr.metrics.threads import by_frame
from jaxvsr.pixels import cubic_kernel

FEATURES = 36
SIGMA = 7 / 6
KEYS = ("support_vectors", "alpha", "rho", "gamma", "feature_min", "feature_max")


@dataclasses.dataclass(frozen=True, eq=False)
class BrisqueParameters:
    """A support vector regression from features to quality, and the features' ranges.

    Attributes:
        support_vectors: (n, 36), scaled features of training images.
        alpha: (n,), their weights.
        rho: offset.
        gamma: of the radial basis functions.
        feature_min, feature_max: (36,), the features that are scaled to -1 and 1.

    Raises:
        ValueError: other shapes, or values that are not finite.
    """

    support_vectors: Float32[np.ndarray, "n features"]
    alpha: Float64[np.ndarray, " n"]
    rho: float
    gamma: float
    feature_min: Float32[np.ndarray, " features"]
    feature_max: Float32[np.ndarray, " features"]

    def __post_init__(self) -> None:
        count = len(self.alpha)
        for name, shape in (
            ("support_vectors", (count, FEATURES)),
            ("feature_min", (FEATURES,)),
            ("feature_max", (FEATURES,)),
        ):
            found = getattr(self, name).shape
            if found != shape:
                raise ValueError(f"BRISQUE's {name} has shape {found}; expected {shape}")
        for name in KEYS:
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"BRISQUE's {name} has values that are not finite")


def read_brisque_parameters(path: str | os.PathLike[str]) -> BrisqueParameters:
    """Reads parameters from an .npz file with the arrays that `BrisqueParameters` names.

    Raises:
        OSError: no such file.
        ValueError: another kind of file, or missing or malformed parameters.
    """
    with np.load(path) as file:
        stored = dict(file) if isinstance(file, np.lib.npyio.NpzFile) else {}
    missing = [key for key in KEYS if key not in stored]
    if missing:
        raise ValueError(f"{os.fspath(path)} lacks {missing}; expected {list(KEYS)}")
    numbers = {key: float(stored[key]) for key in ("rho", "gamma")}
    try:
        return BrisqueParameters(
            support_vectors=np.asarray(stored["support_vectors"], np.float32),
            alpha=np.asarray(stored["alpha"], np.float64),
            feature_min=np.asarray(stored["feature_min"], np.float32),
            feature_max=np.asarray(stored["feature_max"], np.float32),
            **numbers,
        )
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


def brisque(
    frames: Frames, parameters: BrisqueParameters, crop: int = 0
) -> Float64[np.ndarray, "*n"]:
    """Scores frames as OpenCV's QualityBRISQUE does; 0 is best, 100 worst.

    Args:
        frames: (..., h, w, 3) RGB: uint8, or float in [0, 1], which is rounded to 8 bits.
        parameters: of the regression.
        crop: width of the border removed on all four sides, pixels.

    Returns:
        (...) float64; NaN for a frame without texture.

    Source: Mittal et al., "No-Reference Image Quality Assessment in the Spatial Domain".
    """

    def score(frame: np.ndarray) -> float:
        features = brisque_features(rounded(crop_border(frame, crop)))
        low, high = parameters.feature_min, parameters.feature_max
        scaled = -1 + 2 * (features - low) / (high - low)
        distance = np.square(np.float64(parameters.support_vectors) - scaled).sum(1)
        kernel = np.exp(-parameters.gamma * distance)
        return float(np.clip(kernel @ parameters.alpha - parameters.rho, 0, 100))

    return by_frame(score, frames)


def brisque_features(frame: UInt8[np.ndarray, "h w 3"]) -> Float64[np.ndarray, " 36"]:
    """Statistics of a frame and of the frame of half its size, 18 each."""
    red, green, blue = np.moveaxis(frame.astype(np.int64), -1, 0)
    gray = (9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15  # as OpenCV rounds it
    x = gray.astype(np.float32) / np.float32(255)
    return np.array([*_statistics(x), *_statistics(_halve(x))])


def _statistics(x: np.ndarray) -> list[float]:
    """18 features of gray (h, w) in [0, 1]."""
    mean = _blur(x)
    deviation = np.sqrt(np.maximum(_blur(x * x) - mean * mean, 0))
    x = (x - mean) / (deviation + np.float32(1 / 255))
    shape, left, right = _fit(x)
    features = [shape, (left**2 + right**2) / 2]
    for down, across in ((0, 1), (1, 0), (1, 1), (-1, 1)):
        shape, left, right = _fit(x * _shifted(x, down, across))
        scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
        center = (right - left) * gamma(2 / shape) / gamma(1 / shape) * scale
        features += [shape, center, left**2, right**2]
    return features


def _fit(x: np.ndarray) -> tuple[float, float, float]:
    """Shape, left and right deviation of an asymmetric generalized Gaussian, by moments."""
    x = np.asarray(x, np.float64)
    square = x * x
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.sqrt(square[x < 0].sum() / (x < 0).sum())
        right = np.sqrt(square[x > 0].sum() / (x > 0).sum())
        ratio = left / right
        moments = np.abs(x).mean() ** 2 / square.mean()
    moments = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    if np.isnan(moments):
        return np.nan, np.nan, np.nan
    shapes, moments_of = shape_candidates()
    return float(shapes[np.abs(moments_of - moments).argmin()]), float(left), float(right)


def _blur(x: np.ndarray) -> np.ndarray:
    """Filters (h, w) by a 7x7 Gaussian in float32."""
    taps = np.exp(-(np.arange(-3, 4) ** 2) / (2 * SIGMA**2))
    taps = (taps / taps.sum()).astype(np.float32)
    return correlate1d(correlate1d(x, taps, 1, mode="nearest"), taps, 0, mode="nearest")


def _shifted(x: np.ndarray, down: int, across: int) -> np.ndarray:
    """x[i + down, j + across] at (i, j); 0 outside."""
    h, w = x.shape
    return np.pad(x, 1)[1 + down : 1 + down + h, 1 + across : 1 + across + w]


def _halve(x: np.ndarray) -> np.ndarray:
    """OpenCV's bicubic interpolation of (h, w) to half the size, without antialiasing."""
    for axis in (0, 1):
        size = x.shape[axis] // 2
        position = (np.arange(size) + 0.5) * (x.shape[axis] / size) - 0.5
        source = np.floor(position).astype(int)[:, None] + np.arange(-1, 3)
        weights = cubic_kernel(np.abs(position[:, None] - source), a=-0.75).astype(np.float32)
        rows = np.moveaxis(x, axis, 0)[source.clip(0, x.shape[axis] - 1)]
        x = np.moveaxis(np.einsum("nk,nk...->n...", weights, rows), 0, axis)
    return x
