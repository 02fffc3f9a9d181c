"""Outlines of leaves as signed distances: negative inside, zero on the edge, positive outside.

Only +, -, *, / and square roots touch pixels here, which IEEE 754 rounds alike on every machine.
Parameters are Python numbers, which leave float32 pixels float32.
"""

import math
from collections.abc import Callable
from functools import partial, reduce

import numpy as np

# (u, v), float arrays in units of the leaf's radius -> signed distance in the same units.
Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]


def everywhere(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The outline of a leaf without an edge: every point is deep inside."""
    return np.full(np.broadcast_shapes(u.shape, v.shape), -1e3, u.dtype)


def random_outline(rng: np.random.Generator, thinnest: float) -> tuple[Outline, float]:
    """Draws a compact outline: an ellipse, polygon, blob or ring, perhaps bent.

    Args:
        rng: source of all randomness.
        thinnest: least half width of a ring's rim, in radii.

    Returns:
        The outline and its reach: no inner point is further than that from the origin.
    """
    stretch = math.exp(rng.uniform(0, 0.8))
    kind = rng.choice(4, p=(0.25, 0.45, 0.2, 0.1))
    outline: Outline
    if kind == 0:
        outline, reach = partial(ellipse, stretch=stretch), stretch
    elif kind == 1:
        outline, reach = _random_polygon(rng, stretch), stretch
    elif kind == 2:
        orders = rng.choice(np.arange(2, 8), 2, replace=False)
        sizes = 0.45 * rng.uniform(0, 1, 2) / orders**0.5
        waves = sizes * np.exp(2j * np.pi * rng.uniform(0, 1, 2))
        terms = tuple(zip(orders.tolist(), waves.tolist(), strict=True))
        outline, reach = partial(_blob, terms=terms), 1 + sizes.sum()
    else:
        width = float(max(thinnest, rng.uniform(0.04, 0.3)))
        outline, reach = partial(_ring, width=width), 1.0
    if rng.uniform() < 0.3:
        bend = rng.uniform(-0.35, 0.35)
        outline, reach = partial(_bent, outline=outline, bend=bend), reach + abs(bend) * reach**2
    return outline, reach


def random_bar(rng: np.random.Generator, thickness: float) -> tuple[Outline, float]:
    """Draws a straight or bent bar of half length 1, such as a cable, a twig or a pen stroke.

    Args:
        rng: source of all randomness.
        thickness: half the width, in units of half the length.

    Returns:
        As random_outline.
    """
    bend = rng.normal(0, 0.2)
    straight = partial(bar, thickness=float(thickness))
    return partial(_bent, outline=straight, bend=bend), 1.1 + abs(bend)


def ellipse(u: np.ndarray, v: np.ndarray, stretch: float) -> np.ndarray:
    """Half axes (stretch, 1/stretch); distance to first order: f/|grad f|."""
    level = np.sqrt((u / stretch) ** 2 + (v * stretch) ** 2)
    slope = np.sqrt((u / stretch**2) ** 2 + (v * stretch**2) ** 2)
    return (level * (level - 1) - 1e-3) / (slope + 1e-3)  # 1e-3: the center is 0/0 and inside


def _random_polygon(rng: np.random.Generator, stretch: float) -> Outline:
    """A convex polygon with its corners on the ellipse (stretch, 1/stretch)."""
    sides = rng.choice((3, 4, 4, 4, 5, 6))
    turns = (np.arange(sides) + rng.uniform(-0.3, 0.3, sides)) / sides
    if sides == 4 and rng.uniform() < 0.6:
        turns = np.array((1, 3, 5, 7)) / 8  # people build rectangles
    corners = np.exp(2j * np.pi * turns)
    corners = corners.real * stretch + 1j * corners.imag / stretch
    along = np.roll(corners, -1) - corners
    normals = -1j * along / np.abs(along)
    offsets = (corners * normals.conj()).real
    return partial(_polygon, edges=tuple(zip(normals.tolist(), offsets.tolist(), strict=True)))


def _polygon(u: np.ndarray, v: np.ndarray, edges: tuple[tuple[complex, float], ...]) -> np.ndarray:
    """The intersection of half planes, given by their normals and offsets."""
    sides = (u * normal.real + v * normal.imag - offset for normal, offset in edges)
    return reduce(np.maximum, sides)


def _blob(u: np.ndarray, v: np.ndarray, terms: tuple[tuple[int, complex], ...]) -> np.ndarray:
    """A disc whose radius swings by Re(wave * z^order), z being the unit vector to the point."""
    waves = dict(terms)
    radius = np.sqrt(u * u + v * v) + 1e-6
    x, y = u / radius, v / radius
    edge, real, imag = 1.0, np.ones_like(x), np.zeros_like(x)
    for order in range(1, max(waves) + 1):
        real, imag = real * x - imag * y, real * y + imag * x
        wave = waves.get(order, 0)
        edge = edge + (wave.real * real - wave.imag * imag)
    return radius - edge


def _ring(u: np.ndarray, v: np.ndarray, width: float) -> np.ndarray:
    return np.abs(np.sqrt(u * u + v * v) - (1 - width)) - width


def bar(u: np.ndarray, v: np.ndarray, thickness: float) -> np.ndarray:
    """A rectangle of half length 1 and half width `thickness`, in radii."""
    return np.maximum(np.abs(v) - thickness, np.abs(u) - 1)


def _bent(u: np.ndarray, v: np.ndarray, outline: Outline, bend: float) -> np.ndarray:
    """The outline with its u axis bent into the parabola v = bend * u^2."""
    slope = 2 * bend * u
    return outline(u, v - bend * u * u) / np.sqrt(1 + slope * slope)
