"""Quality metrics of frames, computed with NumPy on the host."""

from jaxvsr.metrics.gmsd import gmsd
from jaxvsr.metrics.niqe import NiqeParameters, fit_niqe, niqe, read_niqe_parameters
from jaxvsr.metrics.psnr import psnr
from jaxvsr.metrics.ssim import ssim
from jaxvsr.metrics.tof import tof

__all__ = [
    "NiqeParameters",
    "fit_niqe",
    "gmsd",
    "niqe",
    "psnr",
    "read_niqe_parameters",
    "ssim",
    "tof",
]
