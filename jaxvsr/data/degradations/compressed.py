"""Degradation of a video that was compressed once: bicubic downsampling, then H.264."""

import dataclasses

import numpy as np
from jaxtyping import UInt8

from jaxvsr.data.degradations import codecs
from jaxvsr.data.degradations.common import check_clip, to_float
from jaxvsr.data.degradations.filters import blur
from jaxvsr.data.degradations.kernels import gaussian_kernel
from jaxvsr.data.degradations.resample import imresize, resize
from jaxvsr.pixels import to_integers


@dataclasses.dataclass(frozen=True)
class Compressed:
    """Settings of `compressed`; ranges are uniform, one draw per clip.

    Attributes:
        crf: lowest and highest constant rate factor of x264.
        presets: of x264, equally likely.
        blur: probability of a Gaussian blur before the downsampling.
        sigma: range of its deviation, pixels of the result.
        resize: probability that the result is downsampled and upsampled again.
        size: range of its size over that of the result.
        noise: probability of Gaussian noise on the result.
        gray: probability that the noise is the same in all channels.
        noise_sigma: range of its deviation, on the scale of 0..255.
        scale: H/h of the frames over the result.
    """

    crf: tuple[int, int] = (18, 40)
    presets: tuple[str, ...] = ("veryfast", "medium", "slow")
    blur: float = 0.5
    sigma: tuple[float, float] = (0.1, 0.8)
    resize: float = 0.2
    size: tuple[float, float] = (0.6, 1.0)
    noise: float = 0.4
    gray: float = 0.5
    noise_sigma: tuple[float, float] = (1.0, 8.0)
    scale: int = 4


def compressed(
    frames: UInt8[np.ndarray, "t H W 3"],
    rng: np.random.Generator,
    settings: Compressed | None = None,
) -> UInt8[np.ndarray, "t h w 3"]:
    """Degrades a clip like a camera and one H.264 compression.

    Milder than `realistic`, which degrades twice; for videos of ordinary quality.

    Args:
        frames: (t, h, w, 3) RGB uint8.
        rng: draws everything; the same state gives the same clip.
        settings: ranges and probabilities; None: the defaults.

    Returns:
        (t, h/scale, w/scale, 3) uint8.

    Raises:
        TypeError: frames are not uint8.
        ValueError: frames of another shape.
        InputError: PyAV is not installed.
    """
    settings = settings or Compressed()
    frames = np.asarray(frames)
    check_clip(frames)
    lq = to_float(frames)
    if rng.uniform() < settings.blur:
        sigma = settings.scale * rng.uniform(*settings.sigma)
        lq = blur(lq, gaussian_kernel(2 * int(np.ceil(3 * sigma)) + 1, sigma))
    lq = imresize(lq, 1 / settings.scale)
    if rng.uniform() < settings.resize:
        factor = rng.uniform(*settings.size)
        height, width = lq.shape[1:3]
        small = max(1, round(factor * height)), max(1, round(factor * width))
        lq = resize(resize(lq, small, "area"), (height, width), "bicubic")
    if rng.uniform() < settings.noise:
        channels = 1 if rng.uniform() < settings.gray else lq.shape[-1]
        noise = rng.standard_normal((*lq.shape[:-1], channels), np.float32)
        lq = lq + np.float32(rng.uniform(*settings.noise_sigma) / 255) * noise
    crf = int(rng.integers(settings.crf[0], settings.crf[1] + 1))
    preset = settings.presets[rng.integers(len(settings.presets))]
    return codecs.h264(to_integers(lq), crf=crf, preset=preset)
