"""Toroidal textures with detail at all scales, the surface of the leaves."""

import numpy as np

from . import shapes

# Drawings with hard edges are made this many times finer than the tile, then low-passed.
_FINER = 2


def random_texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draws a tile: a structure with edges (tiles, stripes, strokes, print, ...) in 1/f noise.

    The tile is band-limited by a Gaussian of one texel, so that half its resolution, the
    resolution of the video, samples it without visible aliasing.

    Args:
        rng: source of all randomness.
        size: texels on each side, a multiple of 8.

    Returns:
        (2, size, size) float32: two patterns of mean 0 and deviation of about 1, as coefficients of
        periodic cubic B-splines (scipy.ndimage's order=3, prefilter=False, mode="grid-wrap").
    """
    draw = DRAWINGS[rng.choice(len(DRAWINGS), p=FRACTIONS)]
    drawing = draw(rng, _FINER * size)
    drawing -= drawing.mean(axis=(1, 2), keepdims=True)
    drawing /= np.maximum(drawing.std(axis=(1, 2), keepdims=True), 0.4)
    noise = rng.uniform(0.1, 0.6) * _noise(rng, size, size, slope=rng.uniform(1.0, 1.8))
    tile = sum(_filtered(part, size, blur=1.0, spline=True) for part in (drawing, noise))
    # FFTs of different machines differ in the last bits: drop those.
    return (np.round(tile * 4096) / 4096).astype(np.float32)


def _filtered(x: np.ndarray, size: int, blur: float = 0.0, spline: bool = False) -> np.ndarray:
    """Resamples periodic x (..., m, m) to (..., size, size); Gaussian blur in texels of size."""
    half = min(x.shape[-1], size) // 2
    full = np.fft.rfft2(x)
    kept = np.zeros((*x.shape[:-2], size, size // 2 + 1), np.complex128)
    kept[..., :half, :half] = full[..., :half, :half]
    kept[..., 1 - half :, :half] = full[..., 1 - half :, :half]
    gain = np.exp(-2 * (np.pi * blur * np.fft.fftfreq(size)) ** 2)
    if spline:  # the spectrum of a sampled cubic B-spline
        gain *= 3 / (2 + np.cos(2 * np.pi * np.fft.fftfreq(size)))
    kept *= gain[:, None] * gain[: size // 2 + 1] * (size / x.shape[-1]) ** 2
    return np.fft.irfft2(kept, s=(size, size))


def _noise(
    rng: np.random.Generator, size: int, grid: int, slope: float, spread: float | None = None
) -> np.ndarray:
    """Noise (2, grid, grid) of deviation 1 whose amplitude falls as frequency^-slope.

    Its finest wave is 2/size of the tile; spread narrows its directions to about a normal of that
    many radians around a random one.
    """
    white = rng.standard_normal((2, size, size))
    ky = np.fft.fftfreq(size, 1 / size)[:, None]
    kx = np.arange(size // 2 + 1)[None]
    radius = np.sqrt(kx**2 + ky**2)
    gain = np.maximum(radius, 1) ** -slope * (radius > 0)
    if spread is not None:
        angle = rng.uniform(0, np.pi)
        across = (kx * np.cos(angle) + ky * np.sin(angle)) / np.maximum(radius, 1)
        gain = gain * np.exp((np.abs(across) - 1) / spread**2)
    noise = np.fft.irfft2(np.fft.rfft2(white) * gain, s=(size, size))
    noise /= noise.std(axis=(1, 2), keepdims=True)
    return noise if size == grid else _filtered(noise, grid)


def _stamp(
    canvas: np.ndarray,
    rng: np.random.Generator,
    outline: shapes.Outline,
    reach: float,
    radius: float,
    centers: np.ndarray,
) -> None:
    """Paints the outline, turned at random, at all centers (2, n), each in a color of its own."""
    size = canvas.shape[-1]
    extent = int(np.ceil(radius * reach))
    y, x = np.mgrid[-extent : extent + 1, -extent : extent + 1] / radius
    turn = np.exp(2j * np.pi * rng.uniform())
    u, v = x * turn.real + y * turn.imag, y * turn.real - x * turn.imag
    dy, dx = np.nonzero(outline(u, v) < 0)
    rows = (centers[0][:, None] + dy - extent) % size
    columns = (centers[1][:, None] + dx - extent) % size
    colors = rng.uniform(-1, 1, (2, centers.shape[1], 1))
    canvas.reshape(2, -1)[:, rows * size + columns] = colors


def _clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    coarse = size // _FINER
    return _noise(rng, coarse, coarse, slope=rng.uniform(1.0, 1.6))


def _fibres(rng: np.random.Generator, size: int) -> np.ndarray:
    coarse = size // _FINER
    noise = _noise(rng, coarse, size, slope=rng.uniform(0.5, 1.2), spread=rng.uniform(0.1, 0.4))
    return np.clip(rng.uniform(0.5, 3) * noise, -1, 1)


def _contours(rng: np.random.Generator, size: int) -> np.ndarray:
    """Level lines of smooth noise: curves of every orientation, as of wood or folds."""
    heights = _noise(rng, size // 8, size, slope=2.2)
    return np.clip(rng.uniform(1, 4) * np.cos(rng.uniform(3, 12) * heights), -1, 1)


def _mosaic(rng: np.random.Generator, size: int) -> np.ndarray:
    """Dead leaves without texture, numbers falling as radius^-3."""
    canvas = np.empty((2, size, size))
    canvas[...] = rng.uniform(-1, 1, (2, 1, 1))
    for _ in range(32):
        radius = np.exp(rng.uniform(np.log(3), np.log(size / 6)))
        outline, reach = shapes.random_outline(rng, 1 / radius)
        centers = rng.integers(0, size, (2, int(np.ceil(0.03 * (size / radius) ** 2))))
        _stamp(canvas, rng, outline, reach, radius, centers)
    return canvas


def _strokes(rng: np.random.Generator, size: int) -> np.ndarray:
    """Thin bent lines, such as grass, fur or scratches."""
    canvas = np.zeros((2, size, size))
    for _ in range(48):
        length = np.exp(rng.uniform(np.log(size / 40), np.log(size / 6)))
        thickness = rng.uniform(1.0, 4.0)
        outline, reach = shapes.random_bar(rng, thickness / length)
        centers = rng.integers(0, size, (2, int(np.ceil(0.02 * size**2 / (length * thickness)))))
        _stamp(canvas, rng, outline, reach, length, centers)
    return canvas


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    """A grating, perhaps crossed by another, of wavy lines."""
    y, x = np.mgrid[:size, :size] * (2 * np.pi / size)
    canvas = np.empty((2, size, size))
    for channel in canvas:
        # 12 texels of the finer grid are 3 pixels of the video.
        waves = size / np.exp(rng.uniform(np.log(12), np.log(min(120, size / 2))))
        angle = rng.uniform(0, 2 * np.pi)
        ky, kx = np.round(waves * np.sin(angle)), np.round(waves * np.cos(angle))
        phase = ky * y + kx * x + rng.uniform(0, 3) * np.sin(x + y * rng.integers(-2, 3))
        channel[...] = np.clip(np.cos(phase) * rng.uniform(1, 5), -1, 1)
    if rng.uniform() < 0.5:
        canvas[0] = np.maximum(canvas[0], canvas[1])
    return canvas


def _bricks(rng: np.random.Generator, size: int) -> np.ndarray:
    """Rows of rectangles in mortar, each in its own color: walls, windows, checks, mesh."""
    rows = 2 * int(rng.integers(2, max(3, size // 24)))
    columns = int(rng.integers(2, max(3, size // 24)))
    y, x = np.mgrid[:size, :size] / size
    row = np.floor(y * rows)
    x = x * columns + 0.5 * rng.integers(0, 2) * (row % 2)
    column = np.floor(x)
    colors = rng.uniform(-1, 1) + rng.uniform(0, 1) * rng.uniform(-1, 1, (2, rows, columns))
    canvas = colors[:, row.astype(int), column.astype(int) % columns]
    inside = rng.uniform(0.35, 0.48)  # half a brick, the rest is mortar
    mortar = np.maximum(np.abs(y * rows - row - 0.5), np.abs(x - column - 0.5)) > inside
    canvas[:, mortar] = rng.uniform(-1, 1, (2, 1))
    return canvas


def _print(rng: np.random.Generator, size: int) -> np.ndarray:
    """Lines of words in an alphabet of a few strokes a letter."""
    canvas = np.empty((2, size, size))
    paper = rng.uniform(-1, 1, (2, 1))
    canvas[...] = paper[:, :, None]
    rows = int(rng.integers(max(1, size // 96), max(3, size // 28)))
    height = size / rows
    columns = round(size / (0.55 * height))
    letters = rng.integers(0, 24, (rows, columns))
    letters[rng.uniform(size=letters.shape) < 0.2] = -1  # spaces between words
    nib = rng.uniform(0.03, 0.08) * height
    pen = np.mgrid[-nib : nib + 0.5, -nib : nib + 0.5].reshape(2, 1, -1)
    for letter in range(24):
        row, column = np.nonzero(letters == letter)
        corner = np.stack([(row + 0.15) * height, column * (size / columns) + 0.1 * height])
        for _ in range(3):
            # A stroke joins two nodes of a 3 x 3 raster in the letter's box.
            nodes = rng.integers(0, 3, (2, 2, 1)) * height * np.array([[[0.3]], [[0.18]]])
            line = nodes[:, :1] + (nodes[:, 1:] - nodes[:, :1]) * np.linspace(0, 1, int(height))
            ink = corner[:, :, None, None] + line.transpose(0, 2, 1)[:, None] + pen[:, None]
            y, x = np.rint(ink).astype(int) % size
            canvas[:, y, x] = np.sign(-paper[:, :, None, None])
    return canvas


DRAWINGS = (_clouds, _fibres, _contours, _mosaic, _strokes, _stripes, _bricks, _print)
FRACTIONS = (0.17, 0.1, 0.1, 0.25, 0.13, 0.08, 0.1, 0.07)
