"""Reads and writes single images, and lists the images of a folder in their natural order."""

import io
import pathlib
import re
import zipfile
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, UnidentifiedImageError

from jaxvsr.errors import InputError
from jaxvsr.pixels import to_8_bits
from jaxvsr.video.pyav import require_av

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # tag of EXIF and TIFF
Pixels = UInt8[np.ndarray, "_ _ 3"] | UInt16[np.ndarray, "_ _ 3"]
Place = Any  # pathlib.Path or zipfile.Path: they share the methods used here but no type


def is_hidden(path: Place) -> bool:
    """Whether a file is hidden, such as .DS_Store and the ._* files of macOS."""
    return path.name.startswith(".")


def natural_order(path: Place) -> tuple:
    """Sorting key by which frame 2 comes before frame 10."""
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name


def list_images(folder: Place, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Place]:
    """Lists the images of a folder in natural order, without hidden files.

    Args:
        folder: on the disk or inside a zip file.
        suffixes: lower-case file name endings that count as images.
    """
    paths = [path for path in folder.iterdir() if path.name.lower().endswith(suffixes)]
    return sorted((path for path in paths if not is_hidden(path)), key=natural_order)


def read_image(path: Place) -> Pixels:
    """Reads an image as it is to be displayed: its EXIF orientation is applied.

    Args:
        path: on the disk or inside a zip file.

    Returns:
        (h, w, 3) RGB; uint16 where the file has 16 bits per channel, else uint8. Grey becomes RGB.

    Raises:
        FileNotFoundError: the file does not exist.
        InputError: the file is not an image or is damaged, or PyAV is missing for 16-bit colour.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    return decode_image(data, path)


def decode_image(data: bytes, path: Place) -> Pixels:
    """As `read_image`, from the bytes of a file; the path is for messages."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()  # Pillow itself applies the orientation of a TIFF, and then forgets it
            orientation = image.getexif().get(ORIENTATION, 1)
            if data[:8] == PNG_SIGNATURE and data[24] == 16 and data[25] in (2, 6):
                pixels = _decode_deep_png(data)  # Pillow reduces 16-bit colour to 8 bits
            elif image.mode.startswith("I"):  # grey of 16 or 32 bits
                grey = np.asarray(image).clip(0, 65535).astype(np.uint16)
                pixels = np.repeat(grey[..., None], 3, axis=2)
            else:
                pixels = np.asarray(image.convert("RGB"))
            return _orient(pixels, orientation)
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image, or is damaged") from error
    # SyntaxError is what Pillow raises for a broken PNG.
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def write_image(path: pathlib.Path, pixels: Pixels, quality: int = 95) -> pathlib.Path:
    """Writes an image in the format that its suffix names.

    Args:
        path: of the file; its folder is created where it is missing.
        pixels: (h, w, 3) RGB, uint8, or uint16 for a PNG of 16 bits (needs PyAV).
        quality: of JPEG and WebP, 1 (worst) to 100.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.dtype == np.uint16 and path.suffix.lower() == ".png":
        path.write_bytes(_encode_deep_png(pixels))
    else:
        Image.fromarray(to_8_bits(pixels)).save(path, quality=quality)
    return path


def resize_image(pixels: Pixels, height: int) -> Pixels:
    """Resizes (h, w, 3) uint8 or uint16 to a height by Lanczos' filter; keeps the proportions."""
    h, w = pixels.shape[:2]
    size = round(w * height / h), height
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    resized = [
        np.asarray(Image.fromarray(x.astype(np.float32)).resize(size, Image.Resampling.LANCZOS))
        for x in np.moveaxis(pixels, -1, 0)
    ]
    return np.stack(resized, axis=-1).clip(0, 65535).round().astype(np.uint16)


def _decode_deep_png(data: bytes) -> np.ndarray:
    """A PNG of 16-bit RGB, with or without alpha, as (h, w, 3) uint16."""
    av = require_av("a PNG of 16 bits per channel")
    try:
        (frame,) = av.CodecContext.create("png", "r").decode(av.Packet(data))
    except (av.error.FFmpegError, ValueError) as error:
        raise OSError(str(error)) from error
    return frame.to_ndarray(format="rgb48le")


def _encode_deep_png(pixels: np.ndarray) -> bytes:
    """(h, w, 3) uint16 as a PNG of 16-bit RGB."""
    av = require_av("a PNG of 16 bits per channel")
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = pixels.shape[:2]
    encoder.pix_fmt, encoder.time_base = "rgb48be", Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb48le")
    packets = [*encoder.encode(frame.reformat(format="rgb48be")), *encoder.encode(None)]
    return b"".join(map(bytes, packets))


def _orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation, 1 to 8, to (h, w, 3)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
