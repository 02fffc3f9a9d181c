"""REDS from a small tree of its layout."""

import io
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tfds_builders.reds import reds_dataset_builder

CONFIG = reds_dataset_builder.RedsConfig(
    name="excerpt", num_train=21, num_val=2, num_frames=2, size=(16, 24)
)


def png(value, size):
    data = io.BytesIO()
    Image.new("RGB", (size[1], size[0]), (value, 0, 255)).save(data, "PNG")
    return data.getvalue()


def write(root, part, count, first):
    """Frames whose red is first + clip, and + 100 in the second frame."""
    for folder, size in ((f"{part}_sharp", (16, 24)), (f"{part}_sharp_bicubic/X4", (4, 6))):
        for clip in range(count):
            place = root / folder / f"{clip:03d}"
            place.mkdir(parents=True)
            for frame in range(2):
                data = png(first + clip + 100 * frame, size)
                (place / f"{frame:08d}.png").write_bytes(data)


@pytest.fixture(params=["flat", "nested"])
def manual_dir(request, tmp_path):
    root = tmp_path / "manual"
    for part, count, first in (("train", 21, 0), ("val", 2, 50)):
        write(root / part if request.param == "nested" else root, part, count, first)
    return root


def build(tmp_path, manual_dir):
    builder = reds_dataset_builder.Builder(data_dir=tmp_path / "data", config=CONFIG)
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=config)
    return tfds.builder_from_directory(builder.data_dir)


def test_splits(tmp_path, manual_dir):
    builder = build(tmp_path, manual_dir)
    clips = builder.info.metadata["clips"]
    train = [f"{clip:03d}" for clip in [*range(21), 240, 241] if clip not in (0, 11, 15, 20)]
    assert clips["train"] == [[name, 2, 16, 24] for name in train]
    assert clips["reds4"] == [[name, 2, 16, 24] for name in ("000", "011", "015", "020")]
    assert builder.info.metadata["degradation"] == "bicubic"
    record = builder.as_data_source("reds4")[2 * 1 + 1]
    assert record["key"] == b"011/00000001"
    np.testing.assert_array_equal(record["gt"][0, 0], (111, 0, 255))
    assert record["lq"].shape == (4, 6, 3)
    record = builder.as_data_source("train")[2 * len(train) - 1]
    assert record["key"] == b"241/00000001"
    np.testing.assert_array_equal(record["lq"][0, 0], (151, 0, 255))


def test_the_whole_is_the_official_one():
    config = reds_dataset_builder.Builder.BUILDER_CONFIGS[0]
    assert (config.num_train, config.num_val, config.num_frames) == (240, 30, 100)
    assert config.size == (720, 1280)


def missing_part(root):
    shutil.rmtree(root)
    root.mkdir()
    (root / "reds.zip").touch()


def missing_clip(root):
    shutil.rmtree(next(root.rglob("val_sharp/001")))


def missing_frame(root):
    next(root.rglob("train_sharp/001/00000001.png")).unlink()


def grey_frame(root):
    path = next(root.rglob("train_sharp/001/00000001.png"))
    Image.new("L", (24, 16)).save(path)


def wrong_reduction(root):
    next(root.rglob("train_sharp_bicubic/X4/001/00000000.png")).write_bytes(png(0, (8, 12)))


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (missing_part, FileNotFoundError, r"train_sharp or .*\['reds.zip'\](.|\n)*seungjunnah"),
        (missing_clip, FileNotFoundError, "folder 001 in .*val_sharp, found"),
        (missing_frame, FileNotFoundError, "train_sharp/001/00000001.png"),
        (grey_frame, ValueError, "train_sharp/001/00000001.png is not a PNG file of 8-bit RGB"),
        (wrong_reduction, ValueError, "001/00000000: lq has shape"),
    ],
)
def test_refuses(tmp_path, manual_dir, damage, error, words):
    damage(pathlib.Path(manual_dir))
    with pytest.raises(error, match=words):
        build(tmp_path, manual_dir)


def test_says_where_the_data_are(tmp_path):
    with pytest.raises(AssertionError, match="seungjunnah"):
        build(tmp_path, tmp_path / "nowhere")
