"""The dead-leaves data set as it lies on the disk."""

import collections
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxvsr.data.sources import TFDSClips
from tfds_builders.dead_leaves import dead_leaves_dataset_builder, render

REPOSITORY = pathlib.Path(__file__).parents[2]
Config = dead_leaves_dataset_builder.DeadLeavesConfig


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    builder = dead_leaves_dataset_builder.Builder(data_dir=data_dir, config="test")
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)


def test_is_an_array_record_data_set_with_an_index(directory):
    builder = tfds.builder_from_directory(directory)
    assert builder.info.full_name == "dead_leaves/test/3.0.0"
    assert builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD
    assert builder.info.metadata["scale"] == 4
    assert builder.info.metadata["degradation"] == "bicubic"
    assert builder.info.metadata["clips"] == {
        "train": [["00000", 3, 128, 128], ["00001", 3, 128, 128]],
        "val": [["00000", 3, 128, 128]],
    }
    assert builder.info.metadata["kinds"] == {
        "train": {"00000": "moving", "00001": "tripod"},
        "val": {"00000": "moving"},
    }
    assert "radius^-3" in builder.info.description
    assert "Mumford" in builder.info.citation


def test_clips_are_the_rendered_ones(directory):
    source = TFDSClips("dead_leaves/test", "train", str(directory.parents[2]))
    assert [clip.kind for clip in source.clips] == ["moving", "tripod"]
    clip = render.render_clip(0, "train", 1, 3, (128, 128))
    for name, frames in source.read(1, range(3)).items():
        np.testing.assert_array_equal(frames, clip[name])


def test_records_hold_the_flow(directory):
    source = tfds.builder_from_directory(directory).as_data_source("train")
    assert len(source) == 2 * 4  # clips of 2x2 tiles, three frames in one group
    record = source[4 + 2]
    assert record["key"] == b"00001/00000000/2"
    clip = render.render_clip(0, "train", 1, 3, (128, 128))
    for name in ("flow_forward", "flow_backward", "visible_forward", "visible_backward"):
        np.testing.assert_array_equal(record[name], clip[name][:, 16:, :16])


def test_own_size(tmp_path):
    config = Config(name="mine", num_train=1, num_val=1, num_frames=2, size=(64, 96), seed=3)
    builder = dead_leaves_dataset_builder.Builder(data_dir=tmp_path, config=config)
    builder.download_and_prepare()
    assert builder.as_data_source("val")[1]["lq"].shape == (3, 2, 16, 8)
    assert builder.info.metadata["clips"]["train"] == [["00000", 2, 64, 96]]


@pytest.mark.parametrize(
    "wrong", [{"size": 130}, {"size": (128, 32)}, {"num_val": 0}, {"num_frames": 0}, {"seed": -1}]
)
def test_refuses_configs(wrong):
    right = {"num_train": 1, "num_val": 1, "num_frames": 2, "size": 128}
    with pytest.raises(ValueError, match="size must be|a config needs"):
        Config(name="wrong", **right | wrong)


def test_says_when_the_disk_is_too_small(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")(3e9, 1e9, 2e9)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    builder = dead_leaves_dataset_builder.Builder(data_dir=tmp_path, config="large")
    with pytest.raises(OSError, match=r"needs about 4\d\.\d GB, and 2\.0 GB are free"):
        builder.download_and_prepare()


def test_a_failure_in_the_renderer_ends_the_build(tmp_path, monkeypatch):
    def fail(seed, split, index, *rest):
        raise RuntimeError(f"clip {index}")

    monkeypatch.setattr(render, "render_clip", fail)
    builder = dead_leaves_dataset_builder.Builder(data_dir=tmp_path, config="test")
    with pytest.raises(RuntimeError, match="clip 0"):
        builder.download_and_prepare()
    assert not builder.is_prepared()


def test_command_line(tmp_path):
    config = '{"name": "mine", "num_train": 1, "num_val": 1, "num_frames": 1, "size": [64, 68]}'
    command = [sys.executable, "-m", "tfds_builders", "tfds_builders/dead_leaves"]
    options = [f"--config={config}", f"--data_dir={tmp_path}"]
    subprocess.run(command + options, check=True, capture_output=True, cwd=REPOSITORY)
    builder = tfds.builder_from_directory(tmp_path / "dead_leaves" / "mine" / "3.0.0")
    assert builder.info.metadata["clips"]["train"] == [["00000", 1, 64, 68]]
