"""Losses of the spectrum of frames."""

import jax
import jax.numpy as jnp

from jaxvsr.training.losses.pixel import difference


def fft(sr: jax.Array, gt: jax.Array) -> jax.Array:
    """Computes the L1 distance of the spectra of each frame.

    Args:
        sr, gt: (b, t, h, w, c), any range.

    Returns:
        (b, t) float32: the mean over frequencies of the absolute errors of real and imaginary
        part. The transform is not normalized: noise of one level gives a value that grows with
        the square root of the number of pixels.

    Source: Cho et al., "Rethinking coarse-to-fine approach in single image deblurring", equation 5.
    """
    spectrum = _spectrum(difference(sr, gt))
    error = (jnp.abs(spectrum.real) + jnp.abs(spectrum.imag)) / 2
    return _mean(error, sr.shape[3])


def fft_amplitude(sr: jax.Array, gt: jax.Array) -> jax.Array:
    """Computes the L1 distance of the amplitude spectra of each frame, whatever the phases.

    Args and result are those of `fft`.
    """
    error = jnp.abs(_amplitude(sr) - _amplitude(gt))
    return _mean(error, sr.shape[3])


def _amplitude(x: jax.Array) -> jax.Array:
    return jnp.abs(_spectrum(x.astype(jnp.float32)))


def _spectrum(x: jax.Array) -> jax.Array:
    """Fourier transform of frames (b, t, h, w, c), without the half that repeats the other."""
    return jnp.fft.rfft2(x, axes=(2, 3))


def _mean(error: jax.Array, width: int) -> jax.Array:
    """Averages over all frequencies: columns other than the first and Nyquist's count twice."""
    columns = jnp.arange(error.shape[3])
    count = jnp.where((columns == 0) | (2 * columns == width), 1, 2) / width
    return (error.mean((2, 4)) * count).sum(-1)
