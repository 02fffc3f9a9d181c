"""Drawing: panels side by side with titles, heat maps, line charts."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BAND = 22  # height of a title, pixels
GAP = 4
WIDE = 640  # smallest width of a panel in a picture of its own, pixels
COLORS = ("red", "blue", "black", "green", "purple", "orange")


def side_by_side(panels: Mapping[str, np.ndarray], band: int = BAND) -> np.ndarray:
    """Draws panels of one height side by side, with titles.

    Args:
        panels: name to (h, w_i, 3) uint8.
        band: height of the titles, pixels.

    Returns:
        (h + band, sum of w_i + gaps, 3) uint8.
    """
    height = next(iter(panels.values())).shape[0]
    width = sum(panel.shape[1] + GAP for panel in panels.values()) - GAP
    canvas = Image.new("RGB", (width, height + band), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=band * 14 // BAND)
    left = 0
    for name, panel in panels.items():
        canvas.paste(Image.fromarray(panel), (left, band))
        draw.text((left + 4, 2), name, fill="black", font=font)
        left += panel.shape[1] + GAP
    return np.asarray(canvas)


def one_by_one(panels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Draws panels of one size as pictures of their own, with titles; small ones are enlarged.

    The titles are large, since TensorBoard shows the pictures at a third of their size or less.

    Args:
        panels: name to (h, w, 3) uint8.

    Returns:
        (n, h', w', 3) uint8.
    """
    factor = -(-WIDE // next(iter(panels.values())).shape[1])
    large = {name: repeat_pixels(panel, factor) for name, panel in panels.items()}
    return np.stack([side_by_side({n: panel}, panel.shape[1] // 10) for n, panel in large.items()])


def repeat_pixels(frame: np.ndarray, factor: int) -> np.ndarray:
    """Upsamples (h, w, ...) by an integer factor, nearest neighbor."""
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def heat(fraction: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Draws a fraction in [0, 1] over a frame: dark for 0, red for 1.

    Args:
        fraction: (h, w) float.
        frame: (h, w, 3) uint8.

    Returns:
        (h, w, 3) uint8.
    """
    grey = frame.mean(-1, keepdims=True) * 0.5
    red = np.array([255.0, 60.0, 0.0])
    weight = 0.75 * np.clip(fraction, 0, 1)[..., None]
    return np.round(grey * (1 - weight) + red * weight).astype(np.uint8)


def chart(lines: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str) -> np.ndarray:
    """Draws lines over axes that start at zero.

    Args:
        lines: name -> points (x, y), not negative, ordered by x.
        x, y: names of the axes.

    Returns:
        (400, 640, 3) uint8.
    """
    left, top, right, bottom = 50, 30, 620, 360
    canvas = Image.new("RGB", (640, 400), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=14)
    points = [point for line in lines.values() for point in line]
    highest = [max(values) or 1 for values in zip(*points, strict=True)]

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across, up = point[0] / highest[0], point[1] / highest[1]
        return left + across * (right - left), bottom - up * (bottom - top)

    for i in range(6):
        at = i / 5 * highest[0], i / 5 * highest[1]
        (column, _), (_, row) = place((at[0], 0)), place((0, at[1]))
        draw.line([(left, row), (right, row)], fill="lightgrey")
        draw.text((left - 6, row), f"{at[1]:.2g}", fill="black", font=font, anchor="rm")
        draw.text((column, bottom + 6), f"{at[0]:.2g}", fill="black", font=font, anchor="mt")
    draw.text(((left + right) / 2, bottom + 26), x, fill="black", font=font, anchor="mt")
    draw.text((6, 6), y, fill="black", font=font)
    for i, (name, line) in enumerate(lines.items()):
        color = COLORS[i % len(COLORS)]
        placed = [place(point) for point in line]
        draw.line(placed, fill=color, width=2)
        for column, row in placed:
            draw.ellipse([column - 3, row - 3, column + 3, row + 3], fill=color)
        draw.text((right - 110, bottom - 20 * (i + 1)), name, fill=color, font=font)
    return np.asarray(canvas)
