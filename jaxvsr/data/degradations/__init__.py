"""Degradations that make the low-resolution frames, as the field's protocols define them."""

from jaxvsr.data.degradations.chain import Kernels, Order, Realistic, Walk, realistic
from jaxvsr.data.degradations.chosen import Degradation, parse_degradation
from jaxvsr.data.degradations.codecs import h264, jpeg, mpeg4
from jaxvsr.data.degradations.compressed import Compressed, compressed
from jaxvsr.data.degradations.dct import jpeg_dct
from jaxvsr.data.degradations.filters import blur, usm_sharp
from jaxvsr.data.degradations.kernels import gaussian_kernel, plateau_kernel, sinc_kernel
from jaxvsr.data.degradations.noise import add_noise, with_noise_map
from jaxvsr.data.degradations.resample import blur_downsample, imresize, mod_crop, resize

__all__ = [
    "Compressed",
    "Degradation",
    "Kernels",
    "Order",
    "Realistic",
    "Walk",
    "add_noise",
    "blur",
    "blur_downsample",
    "compressed",
    "gaussian_kernel",
    "h264",
    "imresize",
    "jpeg",
    "jpeg_dct",
    "mod_crop",
    "mpeg4",
    "parse_degradation",
    "plateau_kernel",
    "realistic",
    "resize",
    "sinc_kernel",
    "usm_sharp",
    "with_noise_map",
]
