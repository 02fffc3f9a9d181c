"""Quality metrics of frames, most of them computed with NumPy on the host."""

from jaxvsr.metrics.brisque import BrisqueParameters, brisque, read_brisque_parameters
from jaxvsr.metrics.dists import DistsParameters, dists, dists_parameters
from jaxvsr.metrics.gmsd import gmsd
from jaxvsr.metrics.lpips import LpipsParameters, lpips, lpips_parameters
from jaxvsr.metrics.niqe import NiqeParameters, fit_niqe, niqe, read_niqe_parameters
from jaxvsr.metrics.psnr import psnr
from jaxvsr.metrics.ssim import ssim
from jaxvsr.metrics.tof import tof
from jaxvsr.metrics.vmaf import ffmpeg_with_vmaf, vmaf
from jaxvsr.metrics.warping import warping_error

__all__ = [
    "BrisqueParameters",
    "DistsParameters",
    "LpipsParameters",
    "NiqeParameters",
    "brisque",
    "dists",
    "dists_parameters",
    "ffmpeg_with_vmaf",
    "fit_niqe",
    "gmsd",
    "lpips",
    "lpips_parameters",
    "niqe",
    "psnr",
    "read_brisque_parameters",
    "read_niqe_parameters",
    "ssim",
    "tof",
    "vmaf",
    "warping_error",
]
