"""Pictures that people look at: panels side by side with their names above."""

import pathlib
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BAND = 22  # pixels that a name takes
GAP = 4


def side_by_side(panels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Draws named panels of one height next to each other.

    Args:
        panels: name to (h, w_i, 3) uint8.

    Returns:
        (h + band, sum of w_i + gaps, 3) uint8.
    """
    height = next(iter(panels.values())).shape[0]
    width = sum(panel.shape[1] + GAP for panel in panels.values()) - GAP
    canvas = Image.new("RGB", (width, height + BAND), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=14)
    left = 0
    for name, panel in panels.items():
        canvas.paste(Image.fromarray(panel), (left, BAND))
        draw.text((left + 4, 2), name, fill="black", font=font)
        left += panel.shape[1] + GAP
    return np.asarray(canvas)


def enlarge(frame: np.ndarray, factor: int) -> np.ndarray:
    """Repeats the pixels of (h, w, ...)."""
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def heat(share: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Lays a share in [0, 1] over a frame: dark where it is 0, red where it is 1.

    Args:
        share: (h, w) float.
        frame: (h, w, 3) uint8.

    Returns:
        (h, w, 3) uint8.
    """
    grey = frame.mean(-1, keepdims=True) * 0.5
    red = np.array([255.0, 60.0, 0.0])
    weight = 0.75 * np.clip(share, 0, 1)[..., None]
    return np.round(grey * (1 - weight) + red * weight).astype(np.uint8)


def save(picture: np.ndarray, path: pathlib.Path) -> pathlib.Path:
    """Writes (h, w, 3) uint8 as a PNG, making its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path
