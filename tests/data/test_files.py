"""Clips in files that users download."""

import io
import pathlib
import sys
import zipfile

import numpy as np
import pytest
import trees
import videos
from PIL import Image

from jaxvsr.data import files
from jaxvsr.data.degradations import imresize
from jaxvsr.errors import InputError


def test_find_folder(tmp_path):
    (tmp_path / "train" / "sharp").mkdir(parents=True)
    assert files.find_folder(tmp_path, "sharp", "train/sharp") == tmp_path / "train" / "sharp"
    with pytest.raises(FileNotFoundError, match=r"blur or val/blur in .*found train$"):
        files.find_folder(tmp_path, "blur", "val/blur")
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} has it: give that folder instead"):
        files.find_folder(tmp_path / "train", "train/sharp")
    with pytest.raises(FileNotFoundError, match="found train; .*/train has it"):
        files.find_folder(tmp_path, "sharp")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        files.find_folder(tmp_path / "nowhere", "sharp")


def test_folders_are_found_in_zip_files_too(tmp_path):
    frame = trees.pixels(0, 5, 7)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/sharp/000/00000000.png", trees.png(frame))
    folder = files.find_folder(tmp_path, "sharp", "train/sharp")
    path = folder / "000" / "00000000.png"
    assert files.frame_size(path) == (5, 7)
    np.testing.assert_array_equal(files.read_frame(path), frame)
    with pytest.raises(FileNotFoundError, match="a.zip/train/sharp/000/00000001.png"):
        files.frame_size(folder / "000" / "00000001.png")


def test_damage_in_a_zip_file_is_detected(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/0.png", trees.png(trees.pixels(0, 9, 9)))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[150] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ValueError, match="a.zip/a/0.png is damaged: Bad CRC"):
        files.read_frame(files.find_folder(tmp_path, "a") / "0.png")


def test_numbered_frames_are_ordered_by_number(tmp_path):
    for name in ("f9.png", "f10.png", "f11.PNG", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in files.numbered_frames(tmp_path)] == [
        "f9.png",
        "f10.png",
        "f11.PNG",
    ]
    (tmp_path / "f13.png").touch()
    with pytest.raises(ValueError, match=f"{tmp_path} has frames 9 to 13, but no frame 12"):
        files.numbered_frames(tmp_path)
    (tmp_path / "cover.png").touch()
    with pytest.raises(ValueError, match="cover.png has no number in its name"):
        files.numbered_frames(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ["0000x4", "0001x4", "0002x4"],
        ["clip2_640x480_8_lq", "clip2_640x480_9_lq", "clip2_640x480_10_lq"],
        ["Frame 001", "Frame 002"],
        ["0001_I", "0002_B", "0003_B", "0004_P"],
        ["00000", "00010", "00020"],
        ["22_t0.88", "23_t0.92", "24_t0.96", "25_t1.00", "26_t1.04"],
        ["1305031102.975304", "1305031103.011690", "1305031103.040000", "1305031104.2"],
        ["shot1_001", "shot1_002", "shot2_001"],
        ["99999999999999999998", "99999999999999999999", "100000000000000000000"],
        ["7"],
    ],
)
def test_frames_may_be_numbered_in_any_way(tmp_path, names):
    for name in names:
        (tmp_path / f"{name}.JPEG").touch()
    assert [path.stem for path in files.numbered_frames(tmp_path)] == names


def test_repeated_numbers_are_refused(tmp_path):
    for name in ("1.png", "01.png"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"two frames 1"):
        files.numbered_frames(tmp_path)


def test_a_folder_without_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match=rf"expected frames \*.png or .* in {tmp_path}"):
        files.numbered_frames(tmp_path)


def test_read_frame(tmp_path):
    pixels = trees.pixels(0, 5, 7)
    trees.write(tmp_path / "a.png", pixels)
    assert files.frame_size(tmp_path / "a.png") == (5, 7)
    np.testing.assert_array_equal(files.read_frame(tmp_path / "a.png"), pixels)


def color_mapped():
    data = io.BytesIO()
    Image.fromarray(trees.pixels(0, 4, 4)).quantize(4).save(data, "PNG")
    return data.getvalue()


REFUSED = [
    (b"", "is not a PNG file"),
    (b"\xff\xd8\xff\xe0" + bytes(40), "is not a PNG file"),
    (trees.png(np.zeros((4, 4), np.uint8)), "is a PNG file of 8-bit grey, expected"),
    (
        trees.png(np.zeros((4, 4, 4), np.uint8)),
        "is a PNG file of 8-bit RGB with alpha, expected 8-bit RGB",
    ),
    (trees.png(np.zeros((4, 4), np.uint16)), "is a PNG file of 16-bit grey, expected"),
    (color_mapped(), "is a PNG file of 2-bit color-mapped, expected 8-bit RGB: convert it"),
]
CUT = trees.png(np.arange(12288).reshape(64, 64, 3).astype(np.uint8))


@pytest.mark.parametrize(
    ("data", "words"), [*REFUSED, (CUT[:100], "is damaged"), (CUT[:30], "is not")]
)
def test_read_frame_refuses(tmp_path, data, words):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=f"{tmp_path}/a.png {words}"):
        files.read_frame(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("data", "words"), [*REFUSED, (CUT[:-9], "is truncated"), (CUT[:30], "is truncated")]
)
def test_frame_size_refuses(tmp_path, data, words):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=f"{tmp_path}/a.png {words}"):
        files.frame_size(tmp_path / "a.png")


def test_sixteen_bit_color_is_refused(tmp_path):
    data = bytearray(trees.png(trees.pixels(0, 4, 4)))
    data[24] = 16
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match="of 16-bit RGB, expected 8-bit RGB"):
        files.frame_size(tmp_path / "a.png")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="a.png"):
        files.read_frame(tmp_path / "a.png")


def clip(tmp_path, gt, lq=None):
    """A clip of random frames of the given sizes."""
    found: dict[str, files.ImageFrames] = {}
    for kind, sizes in (("gt", gt), ("lq", lq or [])):
        paths = [pathlib.Path(tmp_path / kind / f"{i}.png") for i in range(len(sizes))]
        for number, (path, size) in enumerate(zip(paths, sizes, strict=True)):
            trees.write(path, trees.pixels([kind == "lq", number], *size))
        found[kind] = files.ImageFrames(paths)
    return files.ClipFiles("a", found["gt"], found["lq"] if lq else None)


def test_frames_are_cropped_to_a_multiple_of_the_scale(tmp_path):
    made = clip(tmp_path, [(10, 15)] * 2)
    assert made.check_files(4) == (2, 8, 12)
    first, second = made.frames(4, "bicubic")
    np.testing.assert_array_equal(first["gt"], trees.pixels([0, 0], 10, 15)[:8, :12])
    np.testing.assert_array_equal(second["lq"], imresize(second["gt"], 1 / 4))


def test_given_frames_are_not_changed(tmp_path):
    given = clip(tmp_path, [(10, 15)] * 2, [(2, 3)] * 2)
    assert given.check_files(4) == (2, 8, 12)
    frames = list(given.frames(4, "unknown"))
    np.testing.assert_array_equal(frames[1]["lq"], trees.pixels([1, 1], 2, 3))


@pytest.mark.parametrize(
    ("gt", "lq", "words"),
    [
        ([(8, 8), (8, 12)], None, "gt/1.png is 8x12, but its clip began with 8x8"),
        ([(8, 8)] * 2, [(2, 2)], "clip a: gt has 2 frames of 8x8; .* lq must have 2 of 2x2, not 1"),
        ([(8, 8)], [(2, 3)], "scale 4 lq must have 1 of 2x2, not 1 of 2x3"),
        ([(3, 8)], None, "clip a is 3x8: too small for x4"),
    ],
)
def test_clips_are_checked(tmp_path, gt, lq, words):
    with pytest.raises(ValueError, match=words):
        clip(tmp_path, gt, lq).check_files(4)


def test_degradations():
    gt = trees.pixels(0, 8, 12)
    np.testing.assert_array_equal(files.degrade(gt, "bicubic", 2), imresize(gt, 1 / 2))
    with pytest.raises(ValueError, match="unknown degradation 'jpeg'; expected 'bicubic' or 'bd'"):
        files.degrade(gt, "jpeg", 4)
    with pytest.raises(ValueError, match="'bd' needs scale 4, got 2"):
        files.degrade(gt, "bd", 2)
    with pytest.raises(ValueError, match="'none' needs scale 1, got 2"):
        files.check_degradation("none", 2)


def test_hidden_files_are_no_frames(tmp_path):
    for name in ("1.png", "2.png", "._1.png"):
        (tmp_path / name).touch()
    assert [path.name for path in files.numbered_frames(tmp_path)] == ["1.png", "2.png"]


def test_frames_of_a_video(tmp_path):
    pytest.importorskip("av")
    frames = np.stack([trees.pixels(i, 32, 48) for i in range(5)])
    trees.write_video(tmp_path / "a.mkv", frames)
    found = files.VideoFrames(tmp_path / "a.mkv")
    assert found.check_files() == (5, 32, 48)
    np.testing.assert_array_equal(np.stack(list(found)), frames)


def test_a_damaged_video_is_refused(tmp_path):
    pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(1000))
    with pytest.raises(InputError, match="a.mp4 is not a video, or is damaged"):
        files.VideoFrames(path).check_files()
    with pytest.raises(FileNotFoundError, match="b.mp4"):
        files.VideoFrames(tmp_path / "b.mp4").check_files()
    videos.write(tmp_path / "a.mov", videos.blocks(9), codec="png", pix_fmt="rgb24")
    data = bytearray((tmp_path / "a.mov").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    (tmp_path / "a.mov").write_bytes(data)
    with pytest.raises(InputError, match="a.mov is damaged"):
        list(files.VideoFrames(tmp_path / "a.mov"))


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # so that its import fails
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InputError, match=r"pip install 'jaxvsr\[video\]'"):
        files.VideoFrames(tmp_path / "a.mp4").check_files()
