"""Pictures that people look at: panels side by side with their names above."""

import pathlib
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BAND = 22  # pixels that a name takes
GAP = 4


def side_by_side(panels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Draws named panels of one size next to each other.

    Args:
        panels: name to (h, w, 3) uint8.

    Returns:
        (h + band, n*w + gaps, 3) uint8.
    """
    height, width = next(iter(panels.values())).shape[:2]
    step = width + GAP
    canvas = Image.new("RGB", (step * len(panels) - GAP, height + BAND), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=14)
    for i, (name, panel) in enumerate(panels.items()):
        canvas.paste(Image.fromarray(panel), (i * step, BAND))
        draw.text((i * step + 4, 2), name, fill="black", font=font)
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
