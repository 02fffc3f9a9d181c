"""Single images, and the order of the images in a folder."""

import io
import os
import pathlib
import struct
import threading
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from jaxvsr.errors import InputError
from jaxvsr.video.images import (
    Picture,
    compose_on_black,
    fill_transparent,
    list_images,
    read_image,
    read_picture,
    resize_image,
    write_image,
    write_picture,
)

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(dtype=np.uint8, height=6, width=9):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, 3), dtype)


def test_images_are_in_natural_order_without_hidden_files(tmp_path):
    names = ["1.png", "2.PNG", "10.jpg", "a2b10.webp", "a10b1.webp"]
    for name in [*reversed(names), ".DS_Store", "._1.png", "notes.txt"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == names


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_the_exif_orientation_is_applied(tmp_path, orientation, suffix):
    pixels = np.full((32, 48, 3), 200, np.uint8)
    pixels[:16, :16] = 20
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pixels).save(path, exif=exif, quality=100)
    upright = ImageOps.exif_transpose(Image.open(path))
    np.testing.assert_array_equal(read_image(path), np.asarray(upright))
    assert read_image(path).shape[:2] == ((48, 32) if orientation > 4 else (32, 48))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_of_16_bits_is_not_clipped(tmp_path, suffix):
    grey = np.arange(0, 65536, 257, np.uint16)[None]
    Image.fromarray(grey).save(tmp_path / f"a{suffix}")
    pixels = read_image(tmp_path / f"a{suffix}")
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, np.stack([grey] * 3, -1))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize("channels", [3, 4])
def test_color_of_16_bits_comes_back_with_alpha_and_profile(tmp_path, suffix, channels):
    pixels, alpha = noise(np.uint16), noise(np.uint16)[..., 0] if channels == 4 else None
    path = write_picture(tmp_path / "new" / f"a{suffix}", Picture(pixels, alpha, PROFILE))
    found = read_picture(path)
    assert found.pixels.dtype == np.uint16 and found.profile == PROFILE
    np.testing.assert_array_equal(found.pixels, pixels)
    np.testing.assert_array_equal(found.alpha, alpha)
    with Image.open(path) as image:  # whose 8 bits are the high ones
        np.testing.assert_array_equal(np.asarray(image)[..., :3], pixels >> 8)


@pytest.mark.parametrize(
    ("encoder", "pixel_format", "options"),
    [
        ("png", "rgb48be", {}),
        ("png", "rgba64be", {}),
        *(("tiff", "rgb48le", {"compression_algo": x}) for x in ("raw", "lzw", "deflate")),
        ("tiff", "rgba64le", {"compression_algo": "lzw"}),
    ],
)
def test_color_of_16_bits_of_other_programs_is_exact(tmp_path, encoder, pixel_format, options):
    """By FFmpeg's encoders, whose filters and compressions differ from ours."""
    av = pytest.importorskip("av")
    pixels = noise(np.uint16, 40, 60)
    context = av.CodecContext.create(encoder, "w")
    context.height, context.width = pixels.shape[:2]
    context.pix_fmt, context.options, context.framerate = pixel_format, options, 25
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le").reformat(format=pixel_format)
    data = b"".join(map(bytes, [*context.encode(frame), *context.encode(None)]))
    path = tmp_path / {"png": "a.png", "tiff": "a.tif"}[encoder]
    path.write_bytes(data)
    np.testing.assert_array_equal(read_image(path), pixels)


def png(header, *chunks):
    """A PNG file of chunks (name, data) after a header (width, height, depth, color type)."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0)), *chunks, (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def test_grey_with_alpha_of_16_bits_is_exact(tmp_path):
    samples = np.random.default_rng(0).integers(0, 65536, (5, 7, 2), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    (tmp_path / "a.png").write_bytes(png((7, 5, 16, 4), (b"IDAT", zlib.compress(rows))))
    found = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(found.pixels, samples[..., [0, 0, 0]])
    np.testing.assert_array_equal(found.alpha, samples[..., 1])


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".PNG"])
def test_alpha_and_profile_come_back(tmp_path, suffix):
    flat = np.full((8, 9, 3), 90, np.uint8)
    alpha = np.repeat(np.uint8([[255] * 5 + [128] * 4]), 8, axis=0)
    found = read_picture(write_picture(tmp_path / f"a{suffix}", Picture(flat, alpha, PROFILE), 100))
    assert np.abs(found.pixels.astype(int) - 90).max() <= 2 and found.profile == PROFILE
    np.testing.assert_array_equal(found.alpha, alpha)


def test_a_format_without_alpha_gets_colors_alone(tmp_path):
    found = read_picture(write_picture(tmp_path / "a.bmp", Picture(noise(), noise()[..., 0])))
    np.testing.assert_array_equal(found.pixels, noise())
    assert found.alpha is None


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB", "I;16"])
def test_every_kind_of_transparency_is_alpha(tmp_path, mode):
    """Channels, a palette with transparent colors, and a single transparent color."""
    pixels, options = np.full((4, 6, 3), 200, np.uint8), {}
    pixels[:, :3] = 50
    if mode in ("RGBA", "LA"):
        image = Image.fromarray(np.dstack([pixels, (pixels[..., 0] == 200) * np.uint8(255)]))
        image = image.convert(mode)
    elif mode == "I;16":
        image, options = Image.fromarray(pixels[..., 0].astype(np.uint16)), {"transparency": 50}
    else:
        image = Image.fromarray(pixels).convert(mode)
        first = image.getpixel((0, 0))
        options = {"transparency": first}
    image.save(tmp_path / "a.png", **options)
    alpha = read_picture(tmp_path / "a.png").alpha
    np.testing.assert_array_equal(alpha, (pixels[..., 0] == 200) * np.iinfo(alpha.dtype).max)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_composing_on_black(dtype):
    white = np.iinfo(dtype).max
    alpha = np.array([[0, white // 2, white]], dtype)
    composed = compose_on_black(Picture(np.full((1, 3, 3), white, dtype), alpha))
    assert composed.alpha is None and composed.pixels.dtype == dtype
    np.testing.assert_array_equal(composed.pixels[..., 1], alpha)


def test_transparent_pixels_take_the_nearest_visible_color():
    pixels, alpha = np.zeros((8, 60, 3), np.uint8), np.zeros((8, 60), np.uint8)
    pixels[:, 20:30], alpha[:, 20:30] = (200, 30, 40), 1
    filled = fill_transparent(Picture(pixels, alpha, b"profile"))
    np.testing.assert_array_equal(filled.pixels[:, 4:46], np.full((8, 42, 3), (200, 30, 40)))
    np.testing.assert_array_equal(filled.pixels[:, 46:], 0)
    np.testing.assert_array_equal(filled.alpha, alpha)
    for same in (alpha * 0, alpha + 9, None):
        np.testing.assert_array_equal(fill_transparent(Picture(pixels, same)).pixels, pixels)


def test_a_profile_of_grey_or_cmyk_is_applied_not_kept(tmp_path):
    """In RGB, to which the image is converted, it would be wrong."""
    grey = Image.new("L", (8, 8), 128)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (lab, b"no profile"):
        grey.save(tmp_path / "a.png", icc_profile=profile)
        found = read_picture(tmp_path / "a.png")
        assert found.profile == b""
        np.testing.assert_array_equal(found.pixels, 128)


def test_8_bits_come_back(tmp_path):
    np.testing.assert_array_equal(read_image(write_image(tmp_path / "a.png", noise())), noise())
    jpeg = write_image(tmp_path / "a.jpg", noise(np.uint16))
    assert read_image(jpeg).dtype == np.uint8


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "CMYK"])
def test_other_kinds_become_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image = Image.fromarray(noise()).convert(mode)
    image.save(path)
    np.testing.assert_array_equal(read_image(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resize_keeps_the_proportions_and_flat_areas(dtype):
    grey = np.full((20, 30, 3), np.iinfo(dtype).max // 3, dtype)
    small = resize_image(grey, 10)
    assert small.shape == (10, 15, 3) and small.dtype == dtype
    np.testing.assert_array_equal(small, grey[:10, :15])


def shortened(data):
    return data[: len(data) // 2]


def tiff(width, height):
    file = io.BytesIO()
    Image.new("RGB", (9, 6)).save(file, "TIFF")
    data = bytearray(file.getvalue())
    start = struct.unpack("<I", data[4:8])[0] + 2
    for tag, value in ((0, width), (1, height)):
        data[start + 12 * tag + 2 : start + 12 * tag + 12] = struct.pack("<HII", 4, 1, value)
    return bytes(data)


def floats():
    file = io.BytesIO()
    Image.new("F", (9, 6), 0.5).save(file, "TIFF")
    return file.getvalue()


BOMB = zlib.compress(bytes(2**27), 9)
WHOLE = (b"IDAT", zlib.compress(b"\0" + bytes(27)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no image", "a.png is not an image"),
        (b"", "a.png is not an image"),
        (shortened, "a.png is damaged"),
        (png((60000, 60000, 8, 2), WHOLE), "a.png has more than 178956970 pixels"),
        (png((2**31 - 1, 2**31 - 1, 16, 6), WHOLE), "a.png has more than"),
        (png((0, 9, 8, 2), WHOLE), "a.png is damaged|is not an image"),
        (tiff(60000, 60000), "a.png has more than"),
        (tiff(5000, 5000), "a.png is damaged"),
        (png((9, 1, 8, 2), (b"zTXt", b"a\0\0" + BOMB), WHOLE), "a.png is damaged: .*too large"),
        (png((9, 1, 8, 2), (b"iCCP", b"a\0\0" + BOMB), WHOLE), "a.png is damaged: .*too large"),
        (png((9, 1, 8, 2), (b"iTXt", b"a\0\1\0\0\0" + BOMB), WHOLE), "a.png is damaged"),
        (floats(), "a.png is damaged: it holds floats"),
    ],
)
def test_damage_and_bombs_are_named(tmp_path, data, message):
    path = write_image(tmp_path / "a.png", noise(height=64, width=64))
    path.write_bytes(data(path.read_bytes()) if callable(data) else data)
    with pytest.raises(InputError, match=message) as raised:
        read_image(path)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore")
def test_random_damage_is_an_input_error(tmp_path):
    """Each of these files is an image with 12 random bytes, or an image still."""
    rng = np.random.default_rng(0)
    for suffix in (".png", ".jpg", ".tif", ".bmp", ".webp"):
        path = write_image(tmp_path / f"a{suffix}", noise(height=32, width=32))
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(40):
            data = whole.copy()
            data[rng.integers(0, min(len(data), 200), 12)] = rng.integers(0, 256, 12)
            path.write_bytes(data.tobytes())
            try:
                read_picture(path)
            except InputError as error:
                assert "\n" not in str(error)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"b\.png"):
        read_image(tmp_path / "b.png")


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    found = []

    def read():
        with pytest.raises(InputError, match=r"a\.png is a pipe"):
            read_image(tmp_path / "a.png")
        found.append(True)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert found


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch):
    path = write_image(tmp_path / "a.png", noise())

    def denied(self, *args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", denied)
    monkeypatch.setattr("pathlib.Path.iterdir", denied)
    with pytest.raises(InputError, match=r"a\.png cannot be read: Permission denied"):
        read_image(path)
    with pytest.raises(InputError, match=r"the folder .* cannot be read: Permission denied"):
        list_images(tmp_path)


def test_damage_inside_a_zip_file_is_named(tmp_path):
    whole = write_image(tmp_path / "a.png", noise()).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.png", whole)
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace(whole[40:60], bytes(20)))
    with pytest.raises(InputError, match=r"a\.png is damaged"):
        read_image(zipfile.Path(tmp_path / "a.zip") / "a.png")


def test_a_kill_leaves_no_half_written_image(tmp_path, monkeypatch):
    path = tmp_path / "eval.png"
    write_image(path, np.zeros((4, 4, 3), np.uint8))
    before = path.read_bytes()

    def killed(image, place, **options):
        pathlib.Path(place).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        write_image(path, np.ones((4, 4, 3), np.uint8))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
