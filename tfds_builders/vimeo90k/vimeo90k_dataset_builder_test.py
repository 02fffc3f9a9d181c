"""Vimeo-90K from a small tree of its layout."""

import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxvsr.data.degradations import imresize
from tfds_builders.vimeo90k import vimeo90k_dataset_builder

CONFIG = vimeo90k_dataset_builder.Vimeo90kConfig(name="excerpt", size=(16, 24))


def pixels(clip, frame):
    return np.random.default_rng([clip, frame]).integers(0, 256, (16, 24, 3), np.uint8)


@pytest.fixture
def manual_dir(tmp_path):
    root = tmp_path / "manual"
    for clip in (1, 2, 3):
        place = root / "sequences" / "00001" / f"{clip:04d}"
        place.mkdir(parents=True)
        for frame in range(1, 8):
            Image.fromarray(pixels(clip, frame)).save(place / f"im{frame}.png")
    (root / "sep_trainlist.txt").write_text("00001/0003\r\n00001/0001\r\n")
    (root / "sep_testlist.txt").write_text("00001/0002\n\n")
    return root


def build(tmp_path, manual_dir):
    builder = vimeo90k_dataset_builder.Builder(data_dir=tmp_path / "data", config=CONFIG)
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=config)
    return tfds.builder_from_directory(builder.data_dir)


def test_splits(tmp_path, manual_dir):
    builder = build(tmp_path, manual_dir)
    assert builder.info.metadata["clips"] == {
        "train": [["00001/0003", 7, 16, 24], ["00001/0001", 7, 16, 24]],
        "test": [["00001/0002", 7, 16, 24]],
    }
    record = builder.as_data_source("train")[7 + 3]
    assert record["key"] == b"00001/0001/00000003"
    np.testing.assert_array_equal(record["gt"], pixels(1, 4))
    np.testing.assert_array_equal(record["lq"], imresize(pixels(1, 4), 1 / 4))


@pytest.mark.parametrize("name", ["../../secret", "/etc", "00001/0001/..", "00001", "1/1"])
def test_refuses_names_that_lead_elsewhere(tmp_path, manual_dir, name):
    (manual_dir / "sep_testlist.txt").write_text(f"00001/0002\n{name}\n")
    with pytest.raises(ValueError, match="sep_testlist.txt names '.*', expected names such as"):
        build(tmp_path, manual_dir)


def test_refuses_an_empty_list(tmp_path, manual_dir):
    (manual_dir / "sep_testlist.txt").write_text("")
    with pytest.raises(ValueError, match="no clips"):
        build(tmp_path, manual_dir)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("sequences", r"sequences in .*sep_testlist.txt(.|\n)*toflow"),
        ("sep_trainlist.txt", r"sep_trainlist.txt(.|\n)*toflow"),
        ("sequences/00001/0003", "folder 00001/0003 in .*sequences"),
        ("sequences/00001/0002/im7.png", "00001/0002/im7.png"),
    ],
)
def test_says_what_is_missing(tmp_path, manual_dir, missing, words):
    path = manual_dir / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError, match=words):
        build(tmp_path, manual_dir)


def test_refuses_other_sizes(tmp_path, manual_dir):
    path = manual_dir / "sequences" / "00001" / "0002" / "im5.png"
    Image.new("RGB", (24, 20)).save(path)
    with pytest.raises(ValueError, match="00001/0002/00000004 is 20x24"):
        build(tmp_path, manual_dir)
