"""Images in files."""

import pathlib

import numpy as np
from PIL import Image


def write_png(picture: np.ndarray, path: pathlib.Path) -> pathlib.Path:
    """Writes (h, w, 3) uint8 RGB as a PNG, making its folder if need be; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path
