"""Clips of one's own, from small trees and through the command line."""

import itertools
import json
import pathlib
import shutil
import subprocess
import sys

import ml_collections
import numpy as np
import pytest
import trees
from PIL import Image

from jaxvsr.data import pipeline
from jaxvsr.data.degradations import imresize
from jaxvsr.data.sources import Clip, TFDSClips
from tfds_builders.frames import frames_dataset_builder

REPOSITORY = pathlib.Path(__file__).parents[2]


def write(root, size=(18, 26), clips=("one", "two"), length=3):
    for number, clip in enumerate(clips):
        for frame in range(length):
            trees.write(root / clip / f"f_{frame + 8}.png", trees.pixels([number, frame], *size))


def build(tmp_path, **fields):
    config = frames_dataset_builder.FramesConfig(name="mine", **fields)
    return trees.build(frames_dataset_builder.Builder(data_dir=tmp_path / "data", config=config))


def source(tmp_path, split="train"):
    return TFDSClips("frames/mine", split, str(tmp_path / "data"))


def test_frames_without_low_resolution(tmp_path):
    write(tmp_path / "gt")
    build(tmp_path, gt=str(tmp_path / "gt"), val=["one"])
    assert source(tmp_path).clips == (Clip("two", 3, 16, 24),)
    frames = source(tmp_path, "val").read(0, range(3))
    expected = np.stack([trees.pixels([0, frame], 18, 26)[:16, :24] for frame in range(3)])
    np.testing.assert_array_equal(frames["gt"], expected)
    np.testing.assert_array_equal(frames["lq"], imresize(expected, 1 / 4))


def test_frames_with_low_resolution_at_another_scale(tmp_path):
    write(tmp_path / "gt", (18, 26))
    write(tmp_path / "lq", (9, 13))
    build(tmp_path, gt=str(tmp_path / "gt"), lq=str(tmp_path / "lq"), scale=2, degradation="mine")
    found = source(tmp_path)
    assert found.scale == 2
    np.testing.assert_array_equal(found.read(1, [0])["lq"][0], trees.pixels([1, 0], 9, 13))


def test_jpeg_frames_are_read_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for clip in ("one", "two"):
        for frame in range(2):
            flat = Image.new("RGB", (26, 18), (40, 90, 30 * frame))
            (tmp_path / "gt" / clip).mkdir(parents=True, exist_ok=True)
            flat.save(tmp_path / "gt" / clip / f"{frame}.JPG", quality=100, exif=exif)
    build(tmp_path, gt=str(tmp_path / "gt"))
    assert source(tmp_path).clips == (Clip("one", 2, 24, 16), Clip("two", 2, 24, 16))
    frames = source(tmp_path).read(0, range(2))["gt"]
    expected = [[[[40, 90, 0]]], [[[40, 90, 30]]]]
    assert np.abs(frames.astype(int) - expected).max() <= 2


def test_frames_that_are_their_own_input_are_stored_once(tmp_path):
    write(tmp_path / "gt")
    built = build(tmp_path, gt=str(tmp_path / "gt"), scale=1, degradation="none")
    assert set(built.info.features) == {"gt", "key"}
    found = source(tmp_path)
    assert (found.scale, found.degradation, found.clips[0]) == (1, "none", Clip("one", 3, 18, 26))
    frames = found.read(1, [2], 3, 4, (5, 6))
    np.testing.assert_array_equal(frames["gt"], trees.pixels([1, 2], 18, 26)[None, 3:8, 4:10])
    np.testing.assert_array_equal(frames["lq"], frames["gt"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"scale": 4}, "needs scale 1, got 4"), ({"scale": 1, "lq": "x"}, "leave out the folder lq")],
)
def test_frames_that_are_their_own_input_have_no_other(fields, message):
    with pytest.raises(ValueError, match=message):
        frames_dataset_builder.FramesConfig(name="mine", gt="x", degradation="none", **fields)


def test_videos(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "gt").mkdir()
    gt = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), np.uint8)
    trees.write_video(tmp_path / "gt" / "a.mkv", gt)
    build(tmp_path, gt=str(tmp_path / "gt"))
    assert source(tmp_path).clips == (Clip("a", 5, 32, 48),)
    np.testing.assert_array_equal(source(tmp_path).read(0, range(5))["gt"], gt)


def test_the_command_line_leads_to_batches(tmp_path):
    write(tmp_path / "gt", (64, 68), length=4)
    config = {"name": "mine", "gt": str(tmp_path / "gt"), "val": ["two"]}
    command = [sys.executable, "-m", "tfds_builders", "tfds_builders/frames"]
    options = [f"--config={json.dumps(config)}", f"--data_dir={tmp_path / 'data'}"]
    subprocess.run(command + options, check=True, capture_output=True, cwd=REPOSITORY)
    fields = {"frames": 3, "crop": 32, "intervals": (1,), "reverse": False, "mirror": False}
    fields |= {"degradation": "", "batch": 2, "workers": 0, "dataset": "frames/mine"}
    data = ml_collections.ConfigDict(fields)
    (batch,) = itertools.islice(pipeline.training_batches(data, source(tmp_path), seed=0), 1)
    assert batch["gt"].shape == (2, 3, 32, 32, 3) and batch["lq"].shape == (2, 3, 8, 8, 3)


def test_the_command_line_without_a_config_says_which(tmp_path):
    command = [sys.executable, "-m", "tfds_builders", "tfds_builders/frames"]
    done = subprocess.run(
        [*command, f"--data_dir={tmp_path}"], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode != 0
    assert """--config='{"name": "mine", "gt": "/my/clips"}'""" in done.stderr


def clip_itself(root):
    for path in (root / "one").iterdir():
        shutil.move(path, root / path.name)


def other_file(root):
    (root / "notes.txt").touch()


def same_name(root):
    (root / "one.mp4").touch()


def empty(root):
    shutil.rmtree(root)
    root.mkdir()


def two_sizes(root):
    trees.write(root / "two" / "f_9.png", trees.pixels(0, 18, 30))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (clip_itself, "in .*/gt, found f_10.png: is .*/gt itself a clip"),
        (other_file, "expected folders of PNG or JPEG frames, or videos .* found notes.txt"),
        (same_name, "/gt holds two clips one"),
        (empty, "/gt is empty: expected folders of PNG or JPEG frames, or videos"),
        (two_sizes, "two/f_9.png is 18x30, but its clip began with 18x26"),
    ],
)
def test_refuses(tmp_path, damage, words):
    write(tmp_path / "gt")
    damage(tmp_path / "gt")
    with pytest.raises(ValueError, match=words):
        build(tmp_path, gt=str(tmp_path / "gt"))
    assert not trees.left_behind(tmp_path / "data")


def test_refuses_what_does_not_pair(tmp_path):
    write(tmp_path / "gt", (16, 24))
    write(tmp_path / "lq", (4, 6), clips=("one",))
    folders = {"gt": str(tmp_path / "gt"), "lq": str(tmp_path / "lq")}
    with pytest.raises(ValueError, match="clip two is in gt, .*/gt, not in lq"):
        build(tmp_path, **folders)
    write(tmp_path / "lq", (4, 6), length=4)
    with pytest.raises(ValueError, match="gt has 3 frames of 16x24; .* not 4 of 4x6"):
        build(tmp_path, **folders)


def test_refuses_configs(tmp_path):
    with pytest.raises(ValueError, match="unknown degradation 'jpeg'"):
        build(tmp_path, gt="gt", degradation="jpeg")
    with pytest.raises(ValueError, match="scale must be from 1 to 8, got 0"):
        build(tmp_path, gt="gt", scale=0)
    with pytest.raises(FileNotFoundError, match="there is no folder nowhere"):
        build(tmp_path, gt="nowhere")
    write(tmp_path / "gt")
    with pytest.raises(ValueError, match="val names 'three', but gt has one, two"):
        build(tmp_path, gt=str(tmp_path / "gt"), val=["three"])
