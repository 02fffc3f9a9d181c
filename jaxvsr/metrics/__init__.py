"""Scores of restored frames by the field's protocols, in float64 on the host."""

from jaxvsr.metrics.psnr import psnr
from jaxvsr.metrics.ssim import ssim

__all__ = ["psnr", "ssim"]
