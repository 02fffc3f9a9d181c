"""Reads and writes still images, and lists the images of a folder in their natural order."""

import dataclasses
import io
import pathlib
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageCms, TiffImagePlugin, UnidentifiedImageError
from scipy.ndimage import distance_transform_edt

from jaxvsr.errors import InputError
from jaxvsr.files import check_regular, replacing
from jaxvsr.pixels import to_8_bits

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
# Capabilities of the formats, by lower-case suffix.
WITH_16_BITS = (".png", ".tif", ".tiff")
WITH_ALPHA = (".png", ".webp", ".tif", ".tiff")
WITH_PROFILE = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
WITH_QUALITY = (".jpg", ".jpeg", ".webp")
MAX_SIDE = {".jpg": 65535, ".jpeg": 65535, ".webp": 16383}  # pixels
MAX_PIXELS = 2 * 89_478_485  # Pillow's limit
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
FILLED = 16  # pixels from visible ones to which `fill_transparent` reaches
ORIENTATION = 0x0112  # tag of EXIF and TIFF
Pixels = UInt8[np.ndarray, "_ _ 3"] | UInt16[np.ndarray, "_ _ 3"]
Alpha = UInt8[np.ndarray, "_ _"] | UInt16[np.ndarray, "_ _"]
Place = Any  # pathlib.Path or zipfile.Path: they share the methods used here but no type


@dataclasses.dataclass(frozen=True)
class Picture:
    """A still image.

    Attributes:
        pixels: (h, w, 3) RGB, uint8 or uint16.
        alpha: (h, w) opacity, of the same dtype; None: opaque.
        profile: ICC profile of the colors; b"": none.
        pages: number of images in the file; this is the first.
    """

    pixels: Pixels
    alpha: Alpha | None = None
    profile: bytes = b""
    pages: int = 1


def is_hidden(path: Place) -> bool:
    """Whether a file is hidden, such as .DS_Store and the ._* files of macOS."""
    return path.name.startswith(".")


def natural_order(path: Place) -> tuple:
    """Sorting key by which frame 2 comes before frame 10."""
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name


def list_images(folder: Place, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Place]:
    """Lists the images of a folder in natural order, without hidden files and folders.

    Args:
        folder: on the disk or inside a zip file.
        suffixes: lower-case file name endings that count as images.

    Raises:
        InputError: the folder cannot be read.
    """
    paths = [path for path in list_folder(folder) if path.name.lower().endswith(suffixes)]
    return sorted(
        (path for path in paths if not is_hidden(path) and not path.is_dir()), key=natural_order
    )


def list_folder(folder: Place) -> list[Place]:
    """Lists everything in a folder; raises InputError if it cannot be read."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read: {error.strerror}") from error


def read_image(path: Place) -> Pixels:
    """Reads the colors of an image, as `read_picture`."""
    return read_picture(path).pixels


def read_picture(path: Place) -> Picture:
    """Reads an image as it is to be displayed: its EXIF orientation is applied.

    Args:
        path: on the disk or inside a zip file.

    Returns:
        The image, in 16 bits where the file has 16 bits per channel, else in 8. Grey becomes RGB.

    Raises:
        FileNotFoundError: the file does not exist.
        InputError: the file is not an image, is damaged or too large, or cannot be read.
    """
    if isinstance(path, pathlib.Path):
        check_regular(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    return decode_picture(data, path)


def decode_image(data: bytes, path: Place) -> Pixels:
    """Decodes the colors of an image, as `decode_picture`."""
    return decode_picture(data, path).pixels


def decode_picture(data: bytes, path: Place) -> Picture:
    """As `read_picture`, from the bytes of a file; the path is for messages."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"{path} is {image.width}x{image.height}: more than {MAX_PIXELS} pixels"
                )
            tiles = list(image.tile)  # which `load` forgets
            image.load()  # Pillow itself applies the orientation of a TIFF, and then forgets it
            orientation = image.getexif().get(ORIENTATION, 1)
            # The second image in a JPEG is a smaller or a brightness copy of the first.
            pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            samples, profile = _samples(image, tiles, data)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image, or is damaged") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has more than {MAX_PIXELS} pixels, or claims to") from error
    except MemoryError as error:
        raise InputError(f"{path} needs more memory than there is") from error
    # Pillow's parsers raise many kinds of errors for damaged bytes.
    except Exception as error:
        raise InputError(f"{path} is damaged: {error}") from error
    samples = _orient(samples, orientation)
    alpha = samples[..., 3] if samples.shape[2] == 4 else None
    return Picture(np.ascontiguousarray(samples[..., :3]), alpha, profile, pages)


def is_animation(path: pathlib.Path) -> bool:
    """Whether an image file is a PNG of several frames."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return getattr(image, "n_frames", 1) > 1
    except Exception:  # damaged: `decode_picture` explains it
        return False


def write_image(path: pathlib.Path, pixels: Pixels, quality: int = 95) -> pathlib.Path:
    """Writes the colors of an image, as `write_picture`, but all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        write_picture(part, Picture(pixels), quality)
    return path


def write_picture(path: pathlib.Path, picture: Picture, quality: int = 95) -> pathlib.Path:
    """Writes an image in the format that its suffix names.

    Args:
        path: of the file; its folder is created where it is missing.
        picture: a part that the format cannot hold is left out: 16 bits are rounded to 8, and
            alpha and profile are dropped (see WITH_16_BITS, WITH_ALPHA and WITH_PROFILE).
        quality: of JPEG and WebP, 1 (worst) to 100.

    Returns:
        The path.
    """
    suffix, samples = path.suffix.lower(), picture.pixels
    if picture.alpha is not None and suffix in WITH_ALPHA:
        samples = np.dstack([samples, picture.alpha])
    profile = picture.profile if suffix in WITH_PROFILE else b""
    path.parent.mkdir(parents=True, exist_ok=True)
    if samples.dtype == np.uint16 and suffix in WITH_16_BITS:
        path.write_bytes((_deep_png if suffix == ".png" else _deep_tiff)(samples, profile))
    else:
        image = Image.fromarray(to_8_bits(samples))
        image.save(path, quality=quality, icc_profile=profile or None)
    return path


def compose_on_black(picture: Picture) -> Picture:
    """Composes a picture on black and drops its alpha."""
    if picture.alpha is None:
        return picture
    white = np.iinfo(picture.pixels.dtype).max
    product = picture.pixels.astype(np.uint32) * picture.alpha[..., None]
    pixels = ((product + white // 2) // white).astype(picture.pixels.dtype)
    return dataclasses.replace(picture, pixels=pixels, alpha=None)


def fill_transparent(picture: Picture) -> Picture:
    """Gives fully transparent pixels near visible ones the color of the nearest of those.

    Files hold arbitrary colors there, often black, and a network would mix them into the edges.
    """
    if picture.alpha is None or not picture.alpha.any() or picture.alpha.all():
        return picture
    distance, (rows, columns) = distance_transform_edt(picture.alpha == 0, return_indices=True)
    near = (distance <= FILLED)[..., None]
    pixels = np.where(near, picture.pixels[rows, columns], picture.pixels)
    return dataclasses.replace(picture, pixels=pixels)


def resize_image(pixels: Pixels, height: int) -> Pixels:
    """Resizes (h, w, 3) uint8 or uint16 to a height by Lanczos' filter; keeps the proportions."""
    size = height, round(pixels.shape[1] * height / pixels.shape[0])
    planes = [resize_plane(x, size, Image.Resampling.LANCZOS) for x in np.moveaxis(pixels, -1, 0)]
    return np.stack(planes, axis=-1)


def resize_plane(
    plane: Alpha, size: Sequence[int], kernel: Image.Resampling = Image.Resampling.BICUBIC
) -> Alpha:
    """Resizes (h, w) uint8 or uint16 to (H, W) by Pillow's bicubic or another filter."""
    exact = plane if plane.dtype == np.uint8 else plane.astype(np.float32)
    resized = np.asarray(Image.fromarray(exact).resize((size[1], size[0]), kernel))
    return resized.clip(0, np.iinfo(plane.dtype).max).round().astype(plane.dtype)


def _samples(image: Image.Image, tiles: list[Any], data: bytes) -> tuple[np.ndarray, bytes]:
    """(h, w, 3 or 4) uint8 or uint16 before the EXIF orientation is applied, and the profile.

    Args:
        image: loaded.
        tiles: its parts, with Pillow's settings of their decoder.
        data: bytes of the file.
    """
    profile = image.info.get("icc_profile") or b""
    profile = profile if profile[16:20] == b"RGB " else b""  # others do not fit RGB
    modes = {_raw_mode(tile.args) for tile in tiles}
    if modes == {"LA;16B"}:  # four bytes a pixel, as RGBA has
        both = _decoded(data, [tile._replace(args="RGBA") for tile in tiles])
        return (both[..., ::2] << 8 | both[..., 1::2])[..., [0, 0, 0, 1]], profile
    if modes and all(re.fullmatch("RGB[AX]?;16[BLN]", mode) for mode in modes):
        low = _decoded(data, [tile._replace(args=_other_byte(tile.args)) for tile in tiles])
        return np.asarray(image).astype(np.uint16) << 8 | low, profile
    if image.mode.startswith("I"):  # grey of 16 or 32 bits
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("it has 32 bits per channel, expected 8 or 16: convert it")
        samples = np.repeat(grey.astype(np.uint16)[..., None], 3, axis=2)
        key = image.info.get("transparency")  # the grey value that is transparent
        if isinstance(key, int):
            samples = np.dstack([samples, np.where(grey == key, 0, 65535).astype(np.uint16)])
        return samples, profile
    if image.mode == "F":
        raise ValueError("it holds floats, expected 8 or 16 bits per channel: convert it")
    if image.mode in ("L", "CMYK") and image.info.get("icc_profile"):
        image = _to_srgb(image)
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB")), profile


def _decoded(data: bytes, tiles: list[Any]) -> np.ndarray:
    """The samples of an image, as uint16, by other decoder settings."""
    with Image.open(io.BytesIO(data)) as image:
        image.tile = tiles
        return np.asarray(image).astype(np.uint16)


def _raw_mode(settings: Any) -> str:
    """How a decoder reads the samples, such as "RGB;16B"; "" where that is not said."""
    return settings if isinstance(settings, str) else str((settings or ("",))[0])


def _other_byte(settings: str | tuple) -> str | tuple:
    """Decoder settings for the low bytes of 16-bit samples; Pillow itself keeps the high bytes.

    Read in the other byte order, a sample's low byte is its high byte. ("N" is the machine's order,
    little-endian.)
    """
    if isinstance(settings, tuple):
        return _other_byte(settings[0]), *settings[1:]
    return settings[:-1] + {"B": "L", "L": "B", "N": "B"}[settings[-1]]


def _to_srgb(image: Image.Image) -> Image.Image:
    """Converts grey or CMYK by the image's profile; returns it unchanged if that is damaged."""
    profile = io.BytesIO(image.info["icc_profile"])
    try:
        converted = ImageCms.profileToProfile(
            image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except ImageCms.PyCMSError:
        return image
    return converted or image


def _deep_png(samples: np.ndarray, profile: bytes) -> bytes:
    """A PNG of (h, w, 3 or 4) uint16."""
    height, width, channels = samples.shape
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    above = np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    filters = np.full((height, 1), 2, np.uint8)  # 2: the difference to the row above
    kind = {3: 2, 4: 6}[channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    if profile:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
    chunks.append((b"IDAT", zlib.compress(np.hstack([filters, rows - above]).tobytes())))
    chunks.append((b"IEND", b""))
    packed = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return PNG_SIGNATURE + b"".join(packed)


def _deep_tiff(samples: np.ndarray, profile: bytes) -> bytes:
    """A TIFF of (h, w, 3 or 4) uint16 with one strip."""
    height, width, channels = samples.shape
    strip = zlib.compress(samples.astype("<u2").tobytes())
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH] = width, height
    tags[TiffImagePlugin.BITSPERSAMPLE] = (16,) * channels
    tags[TiffImagePlugin.COMPRESSION] = 8  # zlib
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 2  # RGB
    tags[TiffImagePlugin.STRIPOFFSETS] = 0  # after the tags, where Pillow moves it to
    tags[TiffImagePlugin.SAMPLESPERPIXEL], tags[TiffImagePlugin.ROWSPERSTRIP] = channels, height
    tags[TiffImagePlugin.STRIPBYTECOUNTS] = len(strip)
    if channels == 4:
        tags[TiffImagePlugin.EXTRASAMPLES] = 2  # alpha that the colors are not multiplied by
    if profile:
        tags[TiffImagePlugin.ICCPROFILE] = profile
    file = io.BytesIO()
    tags.save(file)
    return file.getvalue() + strip


def _orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation, 1 to 8, to (h, w, channels)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
