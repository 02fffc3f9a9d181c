"""Clips of photographs that move: a photograph behind, pieces of others and writing in front."""

import dataclasses
import functools
import math
import pathlib
import string
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage

from tfds_builders.dead_leaves import shapes

# How often things happen in a clip.
STILL, JITTER, HELD, TURNING, WAVING, FADING, WRITING = 0.25, 0.3, 0.08, 0.5, 0.25, 0.15, 0.3
SPEED = 0.1, 10.0  # pixels per frame, log-uniform
OBJECTS = (0.25, 0.3, 0.2, 0.15, 0.1)  # how often there are 0, 1, ... of them
RADIUS = 20.0, 100.0
SOFTNESS = 0.8, 3.0  # pixels
REDUCED = 1.0, 2.0  # photographs, before they move: sharper
TRIES = 3  # places in a photograph; the one with the most detail is shown
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
)
LETTERS = np.array(list(string.ascii_letters + string.digits + "  ..,-&"))

cv2.setNumThreads(1)  # one core for each process that renders


@dataclasses.dataclass(frozen=True)
class Layer:
    """Something that moves as a whole.

    Attributes:
        texture: (h, w, 3) uint8.
        cover: (h, w) float32 in [0, 1]; None: everywhere, the texture mirrored at its border.
        center: x + i*y, the point of the texture that is at `path`.
        path: (t,) complex, pixels of the frame.
        pose: (t,) complex, texels per pixel, turned.
    """

    texture: np.ndarray
    cover: np.ndarray | None
    center: complex
    path: np.ndarray
    pose: np.ndarray

    def paint(self, frame: np.ndarray, t: int, wave: np.ndarray | None) -> None:
        """Paints the layer over a frame (H, W, 3) float32, bent by a wave (H, W), complex."""
        left, top, right, bottom = self._window(t, frame.shape)
        if left >= right or top >= bottom:
            return
        x, y = np.arange(left, right), np.arange(top, bottom)[:, None]
        there = self.center + self.pose[t] * (x + 1j * y - self.path[t])
        if wave is not None:
            there += wave
        at = there.real.astype(np.float32), there.imag.astype(np.float32)
        border = cv2.BORDER_REFLECT_101
        color = cv2.remap(self.texture, *at, cv2.INTER_LANCZOS4, borderMode=border)
        if self.cover is None:
            frame[:] = color
            return
        cover = cv2.remap(self.cover, *at, cv2.INTER_LINEAR)[..., None]
        behind = frame[top:bottom, left:right]
        behind += cover * (color - behind)

    def _window(self, t: int, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the part of a frame that the layer may cover."""
        if self.cover is None:
            return 0, 0, shape[1], shape[0]
        reach = math.hypot(*self.cover.shape) / 2 / abs(self.pose[t]) + 1
        x, y = self.path[t].real, self.path[t].imag
        left, top = max(0, math.floor(x - reach)), max(0, math.floor(y - reach))
        return left, top, min(shape[1], math.ceil(x + reach)), min(shape[0], math.ceil(y + reach))


@functools.lru_cache(maxsize=256)
def photograph(path: pathlib.Path) -> np.ndarray:
    """A photograph (h, w, 3), RGB, uint8."""
    return np.asarray(Image.open(path).convert("RGB"))


def frames(
    rng: np.random.Generator, photos: Sequence[pathlib.Path], num_frames: int, side: int
) -> np.ndarray:
    """Renders a clip.

    Args:
        rng: draws everything; the same state gives the same clip.
        photos: files of photographs, with sides of `side` pixels and more.
        num_frames: t.
        side: height and width.

    Returns:
        (t, side, side, 3) uint8.
    """
    camera = _path(rng, num_frames)
    middle = complex(side / 2, side / 2)
    texture, center = _view(rng, photos, side)
    layers = [Layer(texture, None, center, middle + camera, _pose(rng, camera))]
    for _ in range(rng.choice(len(OBJECTS), p=OBJECTS)):
        layers.append(_object(rng, photos, camera, side))
    if rng.uniform() < WRITING:
        layers.append(_writing(rng, camera, side))
    waves = _waves(rng, num_frames, side) if rng.uniform() < WAVING else [None] * num_frames
    first, last = rng.uniform(0.75, 1.2, 2) if rng.uniform() < FADING else (1.0, 1.0)
    out = np.empty((num_frames, side, side, 3), np.uint8)
    for t in range(num_frames):
        frame = np.empty((side, side, 3), np.float32)
        for index, layer in enumerate(layers):
            layer.paint(frame, t, waves[t] if index == 0 else None)
        light = first + (last - first) * t / max(1, num_frames - 1)
        out[t] = np.clip(np.rint(np.float32(light) * frame), 0, 255)
    return out


def _view(
    rng: np.random.Generator, photos: Sequence[pathlib.Path], side: int
) -> tuple[np.ndarray, complex]:
    """A reduced photograph, and the center of a square of it."""
    photo = photograph(photos[int(rng.integers(len(photos)))])
    largest = min(photo.shape[:2]) / side
    factor = min(math.exp(rng.uniform(*np.log(REDUCED))), largest)
    size = [max(side, round(n / factor)) for n in photo.shape[1::-1]]
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    small = small[:, ::-1] if rng.uniform() < 0.5 else small
    tint = np.exp(rng.normal(0, 0.06, 3)) * np.exp(rng.normal(0, 0.1))
    table = np.clip(np.arange(256)[:, None] * tint, 0, 255).astype(np.uint8)
    small = cv2.LUT(np.ascontiguousarray(small), table[None])
    best, found = -1.0, 0j
    for _ in range(TRIES):
        x, y = (int(rng.integers(n - side + 1)) for n in size)
        gray = small[y : y + side, x : x + side, 1]
        detail = float(np.abs(cv2.Laplacian(gray, cv2.CV_16S)).mean())
        if detail > best:
            best, found = detail, complex(x + side / 2, y + side / 2)
    return small, found


def _path(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Positions (t,), complex, of something that moves smoothly; zero in the middle of the clip."""
    time = np.arange(num_frames)
    if rng.uniform() < STILL:
        place = np.zeros(num_frames, complex)
    else:
        speed = math.exp(rng.uniform(*np.log(SPEED)))
        speeds = speed * (1 + 0.5 * np.sin(rng.uniform(0, 2 * np.pi) + rng.uniform(0, 0.4) * time))
        place = np.cumsum(speeds * np.exp(1j * (rng.uniform(0, 6.3) + rng.normal(0, 0.04) * time)))
        place -= place[num_frames // 2]
    if rng.uniform() < JITTER:
        noise = rng.standard_normal((2, num_frames)) * rng.uniform(0.2, 1.5)
        place = place + np.array([1, 1j]) @ ndimage.gaussian_filter1d(noise, rng.uniform(0.4, 1.2))
    return place[time // 2 * 2] if rng.uniform() < HELD else place


def _pose(rng: np.random.Generator, path: np.ndarray, turn: float = 0.0) -> np.ndarray:
    """Turns and zooms (t,), complex, of something on a path that is turned by `turn`, too."""
    time = np.arange(len(path)) - len(path) / 2
    turning = path.any() and rng.uniform() < TURNING
    rates = rng.normal(0, (0.004, 0.004)) if turning else (0.0, 0.0)
    return np.exp(complex(0, turn) + complex(*rates) * time)


def _waves(rng: np.random.Generator, num_frames: int, side: int) -> np.ndarray:
    """Displacements (t, side, side), complex, of something like water or leaves in the wind."""
    x, y = np.arange(side), np.arange(side)[:, None]
    out = np.zeros((num_frames, side, side), np.complex64)
    for _ in range(2):
        length, phase = rng.uniform(20, 150), rng.uniform(0, 6.3)
        number, rate = 2 * np.pi / length * np.exp(1j * rng.uniform(0, 6.3)), rng.normal(0, 0.5)
        size = complex(*rng.normal(0, 0.01, 2)) * length
        angle = (number.real * x + number.imag * y + phase).astype(np.float32)
        for t in range(num_frames):
            out[t] += np.complex64(size) * np.sin(angle + np.float32(rate * t))
    return out


def _object(
    rng: np.random.Generator, photos: Sequence[pathlib.Path], camera: np.ndarray, side: int
) -> Layer:
    """A piece of a photograph."""
    outline, reach = shapes.random_outline(rng, 0.1)
    radius = min(math.exp(rng.uniform(*np.log(RADIUS))), 0.45 * side / reach)
    half = math.ceil(reach * radius) + 3
    texture, center = _view(rng, photos, 2 * half)
    left, top = int(center.real) - half, int(center.imag) - half
    texture = np.ascontiguousarray(texture[top : top + 2 * half, left : left + 2 * half])
    along = ((np.arange(2 * half) - half) / radius).astype(np.float32)
    distance = outline(along[None], along[:, None]) * np.float32(radius)
    cover = np.clip(0.5 - distance / np.float32(rng.uniform(*SOFTNESS)), 0, 1)
    return _placed(rng, texture, cover, camera, side, rng.uniform(0, 6.3))


def _writing(rng: np.random.Generator, camera: np.ndarray, side: int) -> Layer:
    """A few lines of random letters, drawn at twice the size, with a plate behind them or not."""
    font, size = FONTS[rng.integers(len(FONTS))], math.exp(rng.uniform(*np.log((0.6, 3.0))))
    thick = max(1, round(size * rng.uniform(0.8, 2.5)))
    lines = ["".join(rng.choice(LETTERS, rng.integers(3, 14))) for _ in range(rng.integers(1, 6))]
    sizes = [cv2.getTextSize(line, font, size, thick)[0] for line in lines]
    step = round(1.6 * max(h for _, h in sizes)) + 4
    height = min(2 * side, step * (len(lines) + 1)) // 2 * 2
    width = min(2 * side, max(w for w, _ in sizes) + step) // 2 * 2
    ink = np.zeros((height, width), np.uint8)
    for number, line in enumerate(lines):
        at = step // 2, step * (number + 1)
        cv2.putText(ink, line, at, font, size, 255, thick, cv2.LINE_AA)
    half = cv2.resize(ink, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    letters = half.astype(np.float32) / 255
    plate = rng.uniform() < 0.5
    colors = np.clip(rng.uniform(0, 255, (2, 1)) + rng.normal(0, 40, (2, 3)), 0, 255)
    if not plate:  # an outline makes letters readable
        colors[1] = 255 - colors[0]
    near = letters if plate else cv2.dilate(letters, np.ones((3, 3), np.uint8))
    mixed = colors[1] + letters[..., None] * (colors[0] - colors[1])
    cover = np.ones_like(letters) if plate else near
    turn = rng.normal(0, 0.15)
    return _placed(rng, mixed.astype(np.uint8), cover, camera, side, turn)


def _placed(
    rng: np.random.Generator,
    texture: np.ndarray,
    cover: np.ndarray,
    camera: np.ndarray,
    side: int,
    turn: float,
) -> Layer:
    """A layer somewhere, which follows the camera and has its own motion, each in most clips."""
    own = _path(rng, len(camera))
    path = rng.choice((0.0, 1.0, 1.3), p=(0.2, 0.6, 0.2)) * camera + own
    height, width = cover.shape
    place = complex(*rng.uniform(0, side, 2))
    center = complex(width / 2, height / 2)
    return Layer(texture, cover, center, place + path, _pose(rng, path, turn))
