"""Quality metrics of frames, computed with NumPy on the host."""

from jaxvsr.metrics.brisque import BrisqueParameters, brisque, read_brisque_parameters
from jaxvsr.metrics.gmsd import gmsd
from jaxvsr.metrics.niqe import NiqeParameters, fit_niqe, niqe, read_niqe_parameters
from jaxvsr.metrics.psnr import psnr
from jaxvsr.metrics.ssim import ssim
from jaxvsr.metrics.tof import tof

__all__ = [
    "BrisqueParameters",
    "NiqeParameters",
    "brisque",
    "fit_niqe",
    "gmsd",
    "niqe",
    "psnr",
    "read_brisque_parameters",
    "read_niqe_parameters",
    "ssim",
    "tof",
]
