"""Random second-order degradations for real-world video super-resolution."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from jaxvsr.data.degradations import codecs
from jaxvsr.data.degradations.common import check_clip, to_float
from jaxvsr.data.degradations.filters import blur
from jaxvsr.data.degradations.kernels import gaussian_kernel, plateau_kernel, sinc_kernel
from jaxvsr.data.degradations.resample import resize
from jaxvsr.pixels import to_integers
from jaxvsr.video.pyav import require_av

_GREY = np.array([[0.299], [0.587], [0.114]], np.float32)  # BT.601


@dataclasses.dataclass(frozen=True)
class Walk:
    """A parameter that is uniform in [low, high] in the first frame and then a random walk.

    Attributes:
        low, high: range of all frames.
        step: largest change between consecutive frames.

    Raises:
        ValueError: low is above high, or step below zero.
    """

    low: float
    high: float
    step: float = 0.0

    def __post_init__(self) -> None:
        if not (self.low <= self.high and self.step >= 0):
            raise ValueError(f"{self} must have low <= high and step >= 0")

    def draw(
        self, rng: np.random.Generator, frames: int, first: float | None = None
    ) -> list[float]:
        """Draws one value per frame; the first may be given."""
        values = [rng.uniform(self.low, self.high) if first is None else first]
        while len(values) < frames:
            value = values[-1] + rng.uniform(-self.step, self.step)
            values.append(min(max(value, self.low), self.high))
        return values


@dataclasses.dataclass(frozen=True)
class Kernels:
    """Distribution of blur kernels: kind, size and parameters.

    Attributes:
        sizes: of the kernels, pixels, equally likely.
        probabilities: of isotropic and anisotropic Gaussian, generalized Gaussian and plateau
            kernels (in pairs), and of sinc kernels.
        sigma: of each axis, pixels.
        theta: radian.
        beta, beta_plateau: shapes of the generalized Gaussian and the plateau.
        cutoff_step: step of the sinc's cutoff, radian per pixel, which ranges from pi/3 to pi for
            kernels below 13 pixels, and from pi/5 to pi for others.
    """

    sizes: tuple[int, ...] = (7, 9, 11, 13, 15, 17, 19, 21)
    probabilities: tuple[float, ...] = (0.405, 0.225, 0.108, 0.027, 0.108, 0.027, 0.1)
    sigma: Walk = Walk(0.2, 3, 0.02)
    theta: Walk = Walk(-math.pi, math.pi, math.pi / 10)
    beta: Walk = Walk(0.5, 4, 0.05)
    beta_plateau: Walk = Walk(1, 2, 0.1)
    cutoff_step: float = math.pi / 50


@dataclasses.dataclass(frozen=True)
class Order:
    """One order of a degradation: blur, resizing, noise, JPEG and video compression.

    Attributes:
        blur: probability of a blur.
        kernels: of the blur.
        up, down: probabilities of upsampling and downsampling; otherwise the size is kept.
        scale: of the resizing.
        poisson: probability of Poisson noise; else it is Gaussian.
        gray: probability that the noise is the same in all channels.
        gaussian_sigma: of Gaussian noise, on the scale of 0..255.
        poisson_scale: factor on Poisson noise.
        quality: of JPEG.
        mpeg4: probability of MPEG-4 part 2; else it is H.264.
        bits: range of the bits per frame of the video.
    """

    blur: float = 1.0
    kernels: Kernels = Kernels()
    up: float = 0.2
    down: float = 0.7
    scale: Walk = Walk(0.15, 1.5, 0.015)
    poisson: float = 0.5
    gray: float = 0.4
    gaussian_sigma: Walk = Walk(1, 30, 0.1)
    poisson_scale: Walk = Walk(0.05, 3, 0.005)
    quality: Walk = Walk(30, 95, 3)
    mpeg4: float = 1 / 3
    bits: tuple[float, float] = (1e4, 1e5)


@dataclasses.dataclass(frozen=True)
class Realistic:
    """Settings of `realistic`; the defaults are those of RealBasicVSR.

    Attributes:
        first, second: the two orders.
        sinc: probability of the final sinc filter.
        sinc_sizes: of its kernel, pixels.
        sinc_cutoff: radian per pixel.
        scale: H/h of the frames over the result.
    """

    first: Order = Order()
    second: Order = Order(
        blur=0.8,
        kernels=Kernels(sigma=Walk(0.2, 1.5, 0.02)),
        up=0.3,
        down=0.4,
        scale=Walk(0.3, 1.2, 0.03),
        gaussian_sigma=Walk(1, 25, 0.1),
        poisson_scale=Walk(0.05, 2.5, 0.005),
    )
    sinc: float = 0.8
    sinc_sizes: tuple[int, ...] = (7, 9, 11, 13, 15, 17, 19, 21)
    sinc_cutoff: Walk = Walk(math.pi / 3, math.pi, math.pi / 50)
    scale: int = 4


def realistic(
    frames: UInt8[np.ndarray, "t H W 3"],
    rng: np.random.Generator,
    settings: Realistic | None = None,
) -> UInt8[np.ndarray, "t h w 3"]:
    """Degrades a clip like a real-world video: the second-order degradation of RealBasicVSR.

    Applies blur, resizing, noise, JPEG and video compression twice, with parameters that change
    slowly from frame to frame. The last compression comes before or after a final resizing and sinc
    filter.

    Args:
        frames: (t, h, w, 3) RGB uint8; the paper sharpens them first, `usm_sharp`.
        rng: draws everything; the same state gives the same clip.
        settings: ranges and probabilities; None: those of the paper.

    Returns:
        (t, h/scale, w/scale, 3) uint8.

    Raises:
        TypeError: frames are not uint8.
        ValueError: frames of another shape, or of a size that the scale does not divide.
        InputError: PyAV is not installed.

    Source: Chan et al., "Investigating tradeoffs in real-world video super-resolution"
        (RealBasicVSR), 2022, section 4, and the settings of its official code.
    """
    settings = settings or Realistic()
    frames = np.asarray(frames)
    check_clip(frames)
    h, w = frames.shape[1:3]
    if h % settings.scale or w % settings.scale:
        raise ValueError(
            f"{h}x{w} is not a multiple of the scale {settings.scale}: use mod_crop first"
        )
    require_av()
    clip: list[np.ndarray] = list(to_float(frames))
    clip = _compressed(_before_video(clip, rng, settings.first), rng, settings.first)
    clip = _before_video(clip, rng, settings.second)
    size = (h // settings.scale, w // settings.scale)
    if rng.random() < 0.5:
        clip = _compressed(clip, rng, settings.second)
        clip = _finished(clip, rng, settings, size)
    else:
        clip = _finished(clip, rng, settings, size)
        clip = _compressed(clip, rng, settings.second)
    return to_integers(np.stack(clip))


def _before_video(
    clip: Sequence[np.ndarray], rng: np.random.Generator, order: Order
) -> list[np.ndarray]:
    """Blur, resizing, noise and JPEG of frames (h, w, 3) float32, whose sizes may differ."""
    if rng.random() < order.blur:
        kernels = _kernels(rng, order.kernels, len(clip))
        clip = [blur(frame, kernel) for frame, kernel in zip(clip, kernels, strict=True)]
    clip = _noisy(_resized(clip, rng, order), rng, order)
    qualities = order.quality.draw(rng, len(clip))
    return [
        to_float(codecs.jpeg(to_integers(frame), round(quality)))
        for frame, quality in zip(clip, qualities, strict=True)
    ]


def _kernels(rng: np.random.Generator, kernels: Kernels, frames: int) -> list[np.ndarray]:
    """Draws one kernel per frame, all of one kind and size."""
    kind = int(rng.choice(7, p=kernels.probabilities))
    size = int(rng.choice(kernels.sizes))
    if kind == 6:
        low = math.pi / 3 if size < 13 else math.pi / 5
        cutoffs = Walk(low, math.pi, kernels.cutoff_step).draw(rng, frames)
        return [sinc_kernel(size, cutoff) for cutoff in cutoffs]
    sigma_x = kernels.sigma.draw(rng, frames)
    isotropic = kind % 2 == 0
    sigma_y = sigma_x if isotropic else kernels.sigma.draw(rng, frames)
    theta = [0.0] * frames if isotropic else kernels.theta.draw(rng, frames)
    shape = (Walk(1, 1), kernels.beta, kernels.beta_plateau)[kind // 2]
    make = plateau_kernel if kind >= 4 else gaussian_kernel
    parameters = zip(sigma_x, sigma_y, theta, shape.draw(rng, frames), strict=True)
    return [make(size, *frame) for frame in parameters]


def _resized(
    clip: Sequence[np.ndarray], rng: np.random.Generator, order: Order
) -> list[np.ndarray]:
    """Resizes each frame by its own scale, to even sizes."""
    method = str(rng.choice(["bilinear", "area", "bicubic"]))
    u = rng.random()
    scale = order.scale
    if u < order.up:
        first = rng.uniform(1, scale.high)
    elif u < order.up + order.down:
        first = rng.uniform(scale.low, 1)
    else:
        first = 1.0
    scales = scale.draw(rng, len(clip), first)
    resized = []
    for frame, factor in zip(clip, scales, strict=True):
        h, w = (max(2 * int(side * factor / 2), 2) for side in frame.shape[:2])
        resized.append(resize(frame, (h, w), method))
    return resized


def _noisy(clip: Sequence[np.ndarray], rng: np.random.Generator, order: Order) -> list[np.ndarray]:
    """Adds Gaussian or Poisson noise, equal in all channels or independent."""
    poisson = rng.random() < order.poisson
    gray = rng.random() < order.gray
    levels = (order.poisson_scale if poisson else order.gaussian_sigma).draw(rng, len(clip))
    noisy = []
    for frame, level in zip(clip, levels, strict=True):
        source = frame @ _GREY if gray else frame
        if poisson:
            source = np.round(255 * np.clip(source, 0, 1)) / 255
            # The number of photons is that of distinct values, rounded up to a power of two.
            photons = 2 ** math.ceil(math.log2(len(np.unique(source))))
            noise = rng.poisson(source * photons) / photons - source
        else:
            noise = rng.standard_normal(source.shape) / 255
        noisy.append((frame + level * noise).astype(np.float32))
    return noisy


def _compressed(
    clip: Sequence[np.ndarray], rng: np.random.Generator, order: Order
) -> list[np.ndarray]:
    """Compresses as a video; all frames are resized to the size of the first."""
    codec = codecs.mpeg4 if rng.random() < order.mpeg4 else codecs.h264
    bits = rng.uniform(*order.bits)
    same = [resize(frame, clip[0].shape[:2], "bicubic") for frame in clip]
    return list(to_float(codec(to_integers(np.stack(same)), bitrate=bits, fps=1)))


def _finished(
    clip: Sequence[np.ndarray],
    rng: np.random.Generator,
    settings: Realistic,
    size: tuple[int, int],
) -> list[np.ndarray]:
    """Applies the final resizing and sinc filter."""
    method = str(rng.choice(["bilinear", "area", "bicubic"]))
    clip = [resize(frame, size, method) for frame in clip]
    if rng.random() >= settings.sinc:
        return clip
    kernel_size = int(rng.choice(settings.sinc_sizes))
    cutoffs = settings.sinc_cutoff.draw(rng, len(clip))
    return [
        blur(frame, sinc_kernel(kernel_size, cutoff))
        for frame, cutoff in zip(clip, cutoffs, strict=True)
    ]
