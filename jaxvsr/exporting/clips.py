"""Clips on which a file is calibrated and compared."""

import pathlib
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8

from jaxvsr.errors import InputError
from jaxvsr.pixels import to_8_bits
from jaxvsr.video.images import list_images
from jaxvsr.video.reading import VIDEO_SUFFIXES, TimeRange, open_source

MAX_FRAMES = 100  # of each clip
Clip = UInt8[np.ndarray, "t h w 3"]


def read_clips(folder: pathlib.Path, size: tuple[int, int]) -> list[Clip]:
    """Reads the clips of a folder.

    Args:
        folder: of images (one clip), or of folders of images and videos (a clip each).
        size: (height, width) that every frame must have.

    Returns:
        Clips of uint8 RGB, up to 100 frames of each.

    Raises:
        InputError: the folder does not exist, or has no frames, or frames of another size.
    """
    if not folder.is_dir():
        raise InputError(f"--calibration={folder} is not a folder of images or videos")
    places = [folder] if list_images(folder) else sorted(filter(_is_clip, folder.iterdir()))
    if not places:
        raise InputError(
            f"--calibration={folder} holds no frames; expected images, videos, or folders of images"
        )
    return [_read(place, size) for place in places]


def moving_texture(size: tuple[int, int], frames: int = 4) -> Clip:
    """A smooth random texture that moves by one pixel per frame, with black and white pixels.

    Args:
        size: (height, width).
        frames: number of frames.
    """
    height, width = size
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (height // 4 + 2, (width + frames) // 4 + 2, 3))
    texture = coarse.repeat(4, 0).repeat(4, 1)[: height + 2, : width + frames]
    texture += rng.normal(0, 8, texture.shape)
    texture = (texture[:height] + texture[1 : height + 1] + texture[2 : height + 2]) / 3
    clip = np.stack([texture[:, i : i + width] for i in range(frames)])
    clip[:, 0, 0], clip[:, -1, -1] = 0, 255
    return to_8_bits(clip.clip(0, 255).round().astype(np.uint8))


def _is_clip(path: pathlib.Path) -> bool:
    if path.name.startswith("."):
        return False
    return bool(list_images(path)) if path.is_dir() else path.suffix.lower() in VIDEO_SUFFIXES


def _read(path: pathlib.Path, size: tuple[int, int]) -> Clip:
    source = open_source(path)
    info = source.info()
    if tuple(info.size) != size:
        found, expected = (f"{h}x{w}" for h, w in (info.size, size))
        raise InputError(
            f"{path} has frames of {found} (HEIGHTxWIDTH), but --size={expected}: calibrate with "
            "frames of that size"
        )
    part = TimeRange(end=Fraction(MAX_FRAMES) / info.rate)
    return np.stack([to_8_bits(frame.pixels) for frame in source.frames(part, lambda line: None)])
