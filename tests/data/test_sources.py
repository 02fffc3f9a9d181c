import json
import shutil
import tempfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxvsr.data.sources import Clip, TFDSClips
from jaxvsr.errors import InputError
from tfds_builders.dead_leaves import render


def test_clips_are_listed_and_frames_read_by_index(data_dir):
    source = TFDSClips("dead_leaves/test", "train", str(data_dir))
    assert source.clips == (
        Clip("00000", 3, 128, 128, "moving"),
        Clip("00001", 3, 128, 128, "tripod"),
    )
    assert source.scale == 4
    clip = render.render_clip(0, "train", 1, 3, (128, 128))
    frames = source.read(1, [2, 0])
    assert frames.keys() == {"gt", "lq"}
    for name in frames:
        np.testing.assert_array_equal(frames[name], clip[name][[2, 0]])


def test_a_window_is_a_part_of_the_frames(data_dir):
    source = TFDSClips("dead_leaves/test", "train", str(data_dir))
    whole = source.read(0, range(3))
    # Within a tile, over a border, at the clip's end.
    for top, left, size in [(1, 2, (3, 5)), (14, 10, (5, 9)), (20, 3, (12, 29)), (0, 16, (16, 16))]:
        part = source.read(0, [1, 2], top, left, size)
        for name, scale in (("lq", 1), ("gt", 4)):
            rows = slice(scale * top, scale * (top + size[0]))
            columns = slice(scale * left, scale * (left + size[1]))
            np.testing.assert_array_equal(part[name], whole[name][1:3, rows, columns])


@pytest.mark.parametrize(
    ("frames", "top", "left", "size"),
    [([3], 0, 0, None), ([-1], 0, 0, None), ([0], -1, 0, (4, 4)), ([0], 0, 29, (4, 4))],
)
def test_frames_and_windows_outside_of_a_clip_are_refused(data_dir, frames, top, left, size):
    source = TFDSClips("dead_leaves/test", "train", str(data_dir))
    with pytest.raises(IndexError, match="clip 00000 has 3 frames of 32x32, not frames"):
        source.read(0, frames, top, left, size)


def test_an_unprepared_data_set_is_named_with_the_command(data_dir):
    with pytest.raises(InputError, match="'reds' is not prepared in .*: jaxvsr data reds"):
        TFDSClips("reds", "train", str(data_dir))
    with pytest.raises(InputError, match="no split 'valid'; expected one of: train, val"):
        TFDSClips("dead_leaves/test", "valid", str(data_dir))


def test_foreign_data_sets_are_refused(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where TFDS leaves a folder

    class Other(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "other"
        VERSION = tfds.core.Version("1.0.0")
        url_infos = None

        def _info(self):
            features = tfds.features.FeaturesDict({"x": tfds.features.Scalar(np.int32)})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": [(0, {"x": 1})]}

        def _generate_examples(self):
            raise AssertionError

    Other(data_dir=data_dir, file_format="array_record").download_and_prepare()
    with pytest.raises(InputError, match="'other' is not prepared"):
        TFDSClips("other", "train", str(data_dir))


def edited(data_dir, tmp_path, **changes):
    """The data set with some of its metadata changed."""
    shutil.copytree(data_dir / "dead_leaves", tmp_path / "dead_leaves")
    path = tmp_path / "dead_leaves" / "test" / "3.0.0" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return str(tmp_path)


def test_an_empty_split_is_refused(data_dir, tmp_path):
    place = edited(data_dir, tmp_path, clips={"train": [], "val": []})
    with pytest.raises(InputError, match="'val'.*is empty"):
        TFDSClips("dead_leaves/test", "val", place)


def test_a_data_set_of_an_older_version_must_be_prepared_again(data_dir, tmp_path):
    place = edited(data_dir, tmp_path)
    path = tmp_path / "dead_leaves/test/3.0.0/features.json"
    features = json.loads(path.read_text())
    for way in ("forward", "backward"):
        del features["featuresDict"]["features"][f"visible_{way}"]
    path.write_text(json.dumps(features))
    with pytest.raises(InputError, match="older jaxvsr .*: jaxvsr data dead_leaves/test"):
        TFDSClips("dead_leaves/test", "val", place)


def test_a_view_is_read_from_the_splits_that_hold_its_clips(data_dir, tmp_path):
    metadata = json.loads((data_dir / "dead_leaves/test/3.0.0/metadata.json").read_text())
    clips = metadata["clips"] | {"val": [["other", 3, 128, 128]]}
    views = {"mixed": {"train": ["00001"], "val": ["other"]}, "more": {"val": ["other", "no"]}}
    place = edited(data_dir, tmp_path, clips=clips, views=views)
    source = TFDSClips("dead_leaves/test", "mixed", place)
    assert [clip.name for clip in source.clips] == ["00001", "other"]
    for number, (split, index) in enumerate([("train", 1), ("val", 0)]):
        expected = render.render_clip(0, split, index, 3, (128, 128))["gt"][1:]
        np.testing.assert_array_equal(source.read(number, [1, 2])["gt"], expected)
    with pytest.raises(InputError, match="'more'.*is in part missing"):
        TFDSClips("dead_leaves/test", "more", place)
    with pytest.raises(InputError, match="one of: train, val, mixed, more"):
        TFDSClips("dead_leaves/test", "test", place)


def empty(path):
    path.write_bytes(b"")


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def shorten(path):
    path.write_bytes(path.read_bytes()[:-20])


def scramble(path):
    path.write_bytes(b"\xff\xfe" * 50)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def delete(path):
    path.unlink()


@pytest.mark.parametrize("damage", [empty, halve, shorten, scramble, flip, delete])
@pytest.mark.parametrize(
    "name",
    [
        "dataset_info.json",
        "features.json",
        "metadata.json",
        "dead_leaves-train.array_record-00000-of-00001",
    ],
)
def test_damage_is_named_with_the_command_that_repairs_it(data_dir, tmp_path, name, damage):
    place = edited(data_dir, tmp_path)
    damage(tmp_path / "dead_leaves/test/3.0.0" / name)
    with pytest.raises(InputError, match=r"remove the folder .*dead_leaves/test, then") as raised:
        source = TFDSClips("dead_leaves/test", "train", place)
        assert damage is flip  # others are found before a training starts
        for clip, properties in enumerate(source.clips):
            source.read(clip, range(properties.length))
    message = str(raised.value)
    assert f"again: jaxvsr data dead_leaves/test --data_dir={tmp_path}" in message
    assert "\n" not in message
