"""Single images, and the order of the images in a folder."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxvsr.errors import InputError
from jaxvsr.video.images import list_images, read_image, resize_image, write_image


def noise(dtype=np.uint8, height=6, width=9):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, 3), dtype)


def test_images_are_in_natural_order_without_hidden_files(tmp_path):
    names = ["1.png", "2.PNG", "10.jpg", "a2b10.webp", "a10b1.webp"]
    for name in [*reversed(names), ".DS_Store", "._1.png", "notes.txt"]:
        (tmp_path / name).touch()
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


def test_colour_of_16_bits_comes_back(tmp_path):
    pytest.importorskip("av")
    pixels = noise(np.uint16)
    path = write_image(tmp_path / "new" / "a.png", pixels)
    found = read_image(path)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, pixels)


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


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"no image", "a.png is not an image"), (None, "a.png is damaged")],
)
def test_damage_is_named(tmp_path, data, message):
    path = write_image(tmp_path / "a.png", noise(height=64, width=64))
    path.write_bytes(path.read_bytes()[:200] if data is None else data)
    with pytest.raises(InputError, match=message):
        read_image(path)
    with pytest.raises(FileNotFoundError, match=r"b\.png"):
        read_image(tmp_path / "b.png")
