"""Blur kernels: Gaussian, generalized Gaussian, plateau and sinc.

All are (size, size) float64 and sum to 1; x runs along the width, y along the height.
"""

import math

import numpy as np
from jaxtyping import Float64


def gaussian_kernel(
    size: int,
    sigma_x: float,
    sigma_y: float | None = None,
    theta: float = 0.0,
    beta: float = 1.0,
) -> Float64[np.ndarray, "{size} {size}"]:
    """Computes exp(-d^beta / 2), where d is the squared distance in units of sigma.

    Args:
        size: kernel size in pixels, odd.
        sigma_x: standard deviation in pixels along the first axis of the ellipse.
        sigma_y: along the second axis; None: as sigma_x, an isotropic kernel.
        theta: angle of the first axis from x towards y, radian.
        beta: shape; 1 is the Gaussian, below it has heavier tails, above it a flatter top.

    Returns:
        (size, size) float64, with a sum of 1.

    Raises:
        ValueError: an even size, or a sigma or beta that is not positive.

    Source: Pascal et al., "Parameter estimation for multivariate generalized Gaussian
    distributions", 2013; Wang et al., "Real-ESRGAN", 2021, section 3.1.
    """
    d = _distance(size, sigma_x, sigma_y, theta)
    return _normalized(np.exp(-(d ** _shape(beta)) / 2))


def plateau_kernel(
    size: int,
    sigma_x: float,
    sigma_y: float | None = None,
    theta: float = 0.0,
    beta: float = 1.0,
) -> Float64[np.ndarray, "{size} {size}"]:
    """Computes 1 / (1 + d^beta), where d is the squared distance in units of sigma.

    Arguments as for `gaussian_kernel`.

    Source: Wang et al., "Real-ESRGAN", 2021, section 3.1.
    """
    d = _distance(size, sigma_x, sigma_y, theta)
    return _normalized(1 / (1 + d ** _shape(beta)))


def sinc_kernel(size: int, cutoff: float) -> Float64[np.ndarray, "{size} {size}"]:
    """Computes an ideal circular low-pass filter, truncated to a square, which rings.

    Args:
        size: kernel size in pixels, odd.
        cutoff: highest frequency, radian per pixel, in (0, pi].

    Returns:
        (size, size) float64, with a sum of 1 and values of both signs.

    Raises:
        ValueError: an even size, or a cutoff out of range.

    Source: Wang et al., "Real-ESRGAN", 2021, section 3.3, equation 6.
    """
    from scipy.special import j1  # imported here, as it is slow to import

    if not 0 < cutoff <= math.pi:
        raise ValueError(f"cutoff must be in (0, pi] radian per pixel, got {cutoff}")
    r = np.hypot(*_grid(size))
    r[size // 2, size // 2] = 1  # avoids 0/0; the limit follows
    kernel = cutoff * j1(cutoff * r) / (2 * np.pi * r)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    return _normalized(kernel)


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y (size, size), zero at the center."""
    if size < 1 or size % 2 == 0:
        raise ValueError(f"kernel size must be odd, got {size}")
    line = np.arange(size) - float(size // 2)
    x, y = np.meshgrid(line, line)
    return x, y


def _distance(size: int, sigma_x: float, sigma_y: float | None, theta: float) -> np.ndarray:
    """Squared distance from the center in units of sigma, (size, size)."""
    sigma_y = sigma_x if sigma_y is None else sigma_y
    if not (sigma_x > 0 and sigma_y > 0):
        raise ValueError(f"sigma must be positive, got {sigma_x} and {sigma_y}")
    x, y = _grid(size)
    along = (np.cos(theta) * x + np.sin(theta) * y) / sigma_x
    across = (-np.sin(theta) * x + np.cos(theta) * y) / sigma_y
    return along**2 + across**2


def _shape(beta: float) -> float:
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta}")
    return beta


def _normalized(kernel: np.ndarray) -> np.ndarray:
    return kernel / kernel.sum()
