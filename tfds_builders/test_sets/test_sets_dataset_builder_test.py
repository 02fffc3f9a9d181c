"""The test sets from small trees of their layouts."""

import dataclasses
import shutil

import numpy as np
import pytest
import trees

from jaxvsr.data import parts
from jaxvsr.data.degradations import imresize
from jaxvsr.data.sources import TFDSClips
from tfds_builders.test_sets import test_sets_dataset_builder

CONFIGS = {config.name: config for config in test_sets_dataset_builder.Builder.BUILDER_CONFIGS}
CLIPS = {"calendar": 3, "walk": 5}


def write(root, below=""):
    """Clips of 16x24 in root/<clip>/below."""
    for number, (clip, length) in enumerate(CLIPS.items()):
        for frame in range(length):
            path = root / clip / below / f"{frame:08d}.png"
            trees.write(path, trees.pixels([number, frame], 16, 24))


def build(tmp_path, manual_dir, base="vid4", clips=(), **fields):
    changes = {"num_clips": 2, "num_frames": 8} | fields
    config = dataclasses.replace(CONFIGS[base], name="excerpt", **changes)
    config = parts.part_of(config, clips) if clips else config
    builder = test_sets_dataset_builder.Builder(data_dir=tmp_path / "data", config=config)
    return trees.build(builder, manual_dir)


@pytest.mark.parametrize(
    ("place", "below"), [("GT", ""), ("Vid4/GT", ""), ("", "truth"), ("vid4", "truth")]
)
def test_frames_are_those_of_the_files(tmp_path, place, below):
    write(tmp_path / "manual" / place, below)
    build(tmp_path, tmp_path / "manual")
    source = TFDSClips("test_sets/excerpt", "test", str(tmp_path / "data"))
    assert {clip.name: clip.length for clip in source.clips} == CLIPS
    frames = source.read(1, range(5))
    expected = np.stack([trees.pixels([1, frame], 16, 24) for frame in range(5)])
    np.testing.assert_array_equal(frames["gt"], expected)
    np.testing.assert_array_equal(frames["lq"], imresize(expected, 1 / 4))


@pytest.mark.parametrize(
    ("degradation", "form"),
    [
        ("bicubic", "BIx4/{}/{:03d}.png"),
        ("bd", "BDx4/{}/{:03d}.png"),
        ("bicubic", "{}/input4/{:03d}.png"),
        ("bd", "{}/blur4/{:03d}.png"),
    ],
)
def test_low_resolution_frames_may_be_given(tmp_path, degradation, form):
    root = tmp_path / "manual"
    above = form.startswith("B")
    write(root / "GT" if above else root, "" if above else "truth")
    for clip, length in CLIPS.items():
        for frame in range(length):
            trees.write(root / form.format(clip, frame), trees.pixels([9, frame], 4, 6))
    builder = build(tmp_path, root, degradation=degradation, given=True)
    assert builder.info.metadata["degradation"] == degradation
    frames = TFDSClips("test_sets/excerpt", "test", str(tmp_path / "data")).read(0, [2])
    np.testing.assert_array_equal(frames["lq"][0], trees.pixels([9, 2], 4, 6))


def test_a_part_needs_its_clips_alone(tmp_path):
    write(tmp_path / "manual" / "GT")
    shutil.rmtree(tmp_path / "manual" / "GT" / "calendar")
    build(tmp_path, tmp_path / "manual", clips=("walk",))
    source = TFDSClips("test_sets/excerpt-walk", "test", str(tmp_path / "data"))
    assert source.clips[0].length == 5 and source.part == "part of test_sets/excerpt (2 clips)"
    with pytest.raises(ValueError, match="--clips=1 needs all 2 clips of the set, found walk"):
        build(tmp_path, tmp_path / "manual", clips=1)


def test_configs_are_the_sets_and_their_degradations():
    assert [config for config in CONFIGS if "_" not in config] == ["vid4", "udm10", "spmcs30"]
    assert CONFIGS["vid4"].num_frames == 41 + 34 + 49 + 47
    assert CONFIGS["udm10_bd"].degradation == "bd" and not CONFIGS["udm10_bd"].given
    assert CONFIGS["spmcs30_bd_given"].given


def no_walk(root):
    shutil.rmtree(root / "GT/walk")


def last_frame(root):
    (root / "GT/walk/00000004.png").unlink()


def middle_frame(root):
    (root / "GT/walk/00000002.png").unlink()


def no_frames(root):
    shutil.rmtree(root / "GT/walk")
    (root / "GT/walk").mkdir()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_walk, r"expected 2 clips of 8 frames in all, found 1 of 3: calendar \(3\)"),
        (last_frame, r"found 2 of 7: calendar \(3\), walk \(4\)"),
        (middle_frame, "GT/walk has frames 0 to 4, but no frame 2"),
        (no_frames, r"expected frames \*.png or .* in .*GT/walk, found none"),
    ],
)
def test_refuses(tmp_path, damage, words):
    write(tmp_path / "manual" / "GT")
    damage(tmp_path / "manual")
    with pytest.raises(ValueError, match=words):
        build(tmp_path, tmp_path / "manual")
    assert not trees.left_behind(tmp_path / "data")


def test_refuses_other_clips_in_lq(tmp_path):
    write(tmp_path / "manual" / "GT")
    trees.write(tmp_path / "manual" / "BIx4" / "city" / "0.png", trees.pixels(0, 4, 6))
    with pytest.raises(ValueError, match="clip calendar is in gt, but lq has city"):
        build(tmp_path, tmp_path / "manual", given=True)


def test_says_what_was_expected(tmp_path):
    (tmp_path / "manual" / "Set5").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"GT or .*Vid4/GT .*found Set5(.|\n)*<clip>/truth"):
        build(tmp_path, tmp_path / "manual")
