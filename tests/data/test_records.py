"""Records are read as written, in order; wrong clips are refused."""

import collections
import itertools
import pathlib
import shutil
import tempfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
import trees
from tensorflow_datasets.core import dataset_info, shuffle

from jaxvsr.data import files, records
from jaxvsr.data.sources import Clip, TFDSClips
from jaxvsr.errors import InputError


class Plain(records.ClipBuilder, skip_registration=True):
    """Clips of any size, given to the class."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent  # where a README.md would be
    clips = {}

    def _clips(self, dl_manager):
        return self.clips


class Flowing(Plain, skip_registration=True):
    """Clips of 16x24 with flow."""

    @property
    def layout(self):
        return records.Layout((16, 24), 4, "bicubic", flow=True)


def frame(value=0, size=(16, 24), flow=False):
    """A frame of one value."""
    small = (size[0] // 4, size[1] // 4)
    arrays = {
        "gt": np.full((*size, 3), value, np.uint8),
        "lq": np.full((*small, 3), value, np.uint8),
    }
    if flow:
        arrays["flow_forward"] = np.full((*small, 2), value / 8, np.float32)
        arrays["flow_backward"] = np.full((*small, 2), -value / 8, np.float32)
        arrays["visible_forward"] = np.full(small, value % 2, np.uint8)
        arrays["visible_backward"] = np.full(small, 1 - value % 2, np.uint8)
    return arrays


def build(tmp_path, clips, cls=Plain, **config):
    builder = type("Plain", (cls,), {"clips": clips}, skip_registration=True)(data_dir=tmp_path)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**config))
    return builder


def test_records_come_back_in_order_with_their_index(tmp_path):
    clips = {
        "train": [
            ("b", [frame(i) for i in range(3)]),
            ("a/1", (frame(10 + i, (32, 8)) for i in range(2))),
            ("c", [frame(20)]),
        ],
        "val": [("b", [frame(30)])],
    }
    directory = build(tmp_path, clips).data_dir
    builder = tfds.builder_from_directory(directory)
    assert builder.info.metadata == {
        "scale": 4,
        "degradation": "bicubic",
        "side": 64,
        "group": 4,
        "views": {},
        "kinds": {},
        "clips": {
            "train": [["b", 3, 16, 24], ["a/1", 2, 32, 8], ["c", 1, 16, 24]],
            "val": [["b", 1, 16, 24]],
        },
    }
    assert builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD
    keys = [record["key"].decode() for record in builder.as_data_source("train")]
    assert keys == ["b/00000000/0", "a/1/00000000/0", "c/00000000/0"]


def test_clips_come_back_whole_and_in_part(tmp_path):
    rng = np.random.default_rng(0)
    clips = {}
    for name, length, (h, w) in (("a", 6, (20, 35)), ("b", 9, (16, 16)), ("c", 1, (3, 40))):
        arrays = rng.integers(0, 256, (length, 4 * h, 4 * w, 3), np.uint8)
        clips[name] = [{"gt": gt, "lq": gt[1::4, 2::4]} for gt in arrays]
    build(tmp_path, {"train": clips.items()})
    source = TFDSClips("plain", "train", str(tmp_path))
    assert source.clips[1] == Clip("b", 9, 64, 64)
    for number, (clip, frames) in enumerate(zip(source.clips, clips.values(), strict=True)):
        whole = source.read(number, range(clip.length))
        chosen = rng.permutation(clip.length)[:3].tolist()
        top, left = (int(rng.integers(side // 4)) for side in (clip.height, clip.width))
        size = clip.height // 4 - top, int(rng.integers(1, clip.width // 4 - left + 1))
        part = source.read(number, chosen, top, left, size)
        for name, scale in (("gt", 4), ("lq", 1)):
            expected = np.stack([frame[name] for frame in frames])
            np.testing.assert_array_equal(whole[name], expected)
            rows = slice(scale * top, scale * (top + size[0]))
            columns = slice(scale * left, scale * (left + size[1]))
            np.testing.assert_array_equal(part[name], expected[chosen][:, rows, columns])


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_other_scales(tmp_path, scale):
    class Scaled(Plain, skip_registration=True):
        layout = records.Layout(scale=scale)

    gt = np.random.default_rng(scale).integers(0, 256, (2, 72, 132, 3), np.uint8)
    clip = [{"gt": frame, "lq": frame[::scale, ::scale]} for frame in gt]
    build(tmp_path, {"train": [("a", clip)]}, Scaled)
    source = TFDSClips("plain", "train", str(tmp_path))
    assert source.scale == scale
    size = (70 // scale - 2, 8)
    part = source.read(0, [1], 2, 5, size)
    rows, columns = slice(2 * scale, 2 * scale + size[0] * scale), slice(5 * scale, 13 * scale)
    np.testing.assert_array_equal(part["gt"][0], gt[1, rows, columns])
    np.testing.assert_array_equal(part["lq"][0], gt[1, rows, columns][::scale, ::scale])


def test_flow_is_stored_exactly(tmp_path):
    frames = [frame(i, flow=True) for i in range(2)]
    builder = build(tmp_path, {"train": [("a", frames)]}, Flowing)
    (record,) = builder.as_data_source("train")
    for name in ("flow_forward", "flow_backward", "visible_forward", "visible_backward"):
        assert record[name].dtype == frames[0][name].dtype
        np.testing.assert_array_equal(record[name], np.stack([frame[name] for frame in frames]))


def test_the_flow_of_a_clip_is_read_whole(tmp_path):
    class Large(Plain, skip_registration=True):
        layout = records.Layout(flow=True)

    rng = np.random.default_rng(0)
    clips = {}
    for name, length, size in (("a", 6, (80, 140)), ("b", 3, (64, 16))):
        frames = [frame(0, size, flow=True) for _ in range(length)]
        for arrays in frames:
            for flow in (arrays["flow_forward"], arrays["flow_backward"]):
                flow[:] = rng.normal(size=flow.shape)
            for visible in (arrays["visible_forward"], arrays["visible_backward"]):
                visible[:] = rng.integers(2, size=visible.shape)
        clips[name] = frames
    build(tmp_path, {"train": clips.items()}, Large)
    source = TFDSClips("plain", "train", str(tmp_path))
    assert source.has_flow
    for number, frames in enumerate(clips.values()):
        flow = source.read_flow(number)
        assert sorted(flow) == sorted(set(frames[0]) - {"gt", "lq"})
        for name, array in flow.items():
            assert array.dtype == frames[0][name].dtype
            np.testing.assert_array_equal(array, [frame[name] for frame in frames])
    part = source.read_flow(0, [5, 1, 2], 6, 15, (13, 18))
    for name, array in part.items():
        expected = np.stack([clips["a"][t][name][6:19, 15:33] for t in (5, 1, 2)])
        np.testing.assert_array_equal(array, expected)
    with pytest.raises(IndexError, match="clip a has 6 frames of 20x35"):
        source.read_flow(0, [6])


def test_a_split_too_large_for_memory_keeps_its_order(tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 0)
    monkeypatch.setattr(records, "KEY_UNIT", 2**128 // 10_000)  # a bucket for each 10 bytes
    buckets = collections.Counter()
    add = shuffle._Bucket.add
    monkeypatch.setattr(
        shuffle._Bucket, "add", lambda bucket, *data: buckets.update([bucket]) or add(bucket, *data)
    )
    clips = [(str(i), [frame(i, (8, 8))]) for i in range(30)]
    builder = build(tmp_path, {"train": clips})
    keys = [record["key"].decode() for record in builder.as_data_source("train")]
    assert keys == [f"{i}/00000000/0" for i in range(30)]
    assert len(buckets) == 30


def test_keys_put_a_gigabyte_into_a_temporary_file():
    unit = records.KEY_UNIT
    assert shuffle.get_bucket_number(10**9 * unit, 1000) == 0
    assert shuffle.get_bucket_number(100 * 10**9 * unit, 1000) == 90
    assert shuffle.get_bucket_number(10**13 * unit, 1000) == 999


def test_a_build_limited_in_examples_indexes_complete_clips(tmp_path):
    clips = {"train": [(name, [frame(ord(name), (16, 80))] * 6) for name in "abc"]}
    builder = build(tmp_path, clips, max_examples_per_split=7)  # a has 2 x 2, then 3 of b's 4
    assert builder.info.metadata["clips"]["train"] == [["a", 6, 16, 80], ["b", 4, 16, 80]]
    source = TFDSClips("plain", "train", str(tmp_path))
    assert (source.read(1, range(4))["gt"] == ord("b")).all()


def test_an_interrupted_build_is_not_taken_for_a_complete_one(tmp_path):
    def broken():
        yield frame(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, {"train": [("a", [frame(0)]), ("b", broken())]})
    builder = Plain(data_dir=tmp_path)
    assert not builder.is_prepared()
    assert not builder.data_path.exists()
    with pytest.raises(dataset_info.DatasetInfoFileError):
        tfds.builder_from_directory(builder.data_dir)
    whole = build(tmp_path, {"train": [("a", [frame(0)]), ("b", [frame(1)])]})
    assert whole.info.metadata["clips"]["train"] == [["a", 1, 16, 24], ["b", 1, 16, 24]]
    assert len(whole.as_data_source("train")) == 2


def test_the_remains_of_a_killed_build_do_no_harm(tmp_path):
    whole = {"train": [("a", [frame(1)])]}
    left = tmp_path / "plain" / "incomplete.ABCDEF_1.0.0"
    shutil.copytree(build(tmp_path, whole).data_dir, left)
    shutil.rmtree(tmp_path / "plain" / "1.0.0")
    with pytest.raises(InputError, match="'plain' is not prepared"):
        TFDSClips("plain", "train", str(tmp_path))
    build(tmp_path, whole)
    assert TFDSClips("plain", "train", str(tmp_path)).clips == (Clip("a", 1, 16, 24),)


def test_nothing_is_left_in_the_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    build(tmp_path, {"train": [("a", [frame(1)])]})
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(
    ("clips", "words"),
    [
        ([("a", [frame(), frame(size=(16, 32))])], "a/00000001 is 16x32, but its clip began"),
        ([("a", [frame() | {"lq": frame(size=(16, 28))["lq"]}])], "a/00000000: lq has shape"),
        ([("a", [frame(size=(18, 24))])], "a/00000000: gt has shape"),
        ([("a", [frame() | {"gt": np.zeros((16, 24, 3))}])], "a/00000000: expected .*float64"),
        ([("a", [frame(flow=True)])], "a/00000000: expected .*flow"),
        ([("a", [{"gt": frame()["gt"]}])], "a/00000000: expected"),
        ([("a", [frame()]), ("b", [])], "clip b has no frames"),
        ([("a", [frame()]), ("b", [frame()]), ("a", [frame()])], "two clips a"),
        ([], "no clips"),
    ],
)
def test_refuses_clips(tmp_path, clips, words):
    with pytest.raises(ValueError, match=words):
        build(tmp_path, {"train": clips})
    assert not Plain(data_dir=tmp_path).is_prepared()


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (frame(), "expected .*flow"),
        (frame(flow=True, size=(16, 28)), "16x28, but the data set's frames are 16x24"),
        (frame(flow=True) | {"flow_forward": np.zeros((4, 5, 2), "f4")}, "flow_forward has shape"),
        (frame(flow=True) | {"visible_forward": np.ones(4, "u1")}, "visible_forward has shape"),
    ],
)
def test_refuses_frames_that_do_not_fit_the_layout(tmp_path, one, words):
    with pytest.raises(ValueError, match=words):
        build(tmp_path, {"train": [("a", [one])]}, Flowing)


def test_refuses_other_file_formats(tmp_path):
    Plain.clips = {"train": [("a", [frame()])]}
    with pytest.raises(ValueError, match="array_record"):
        Plain(data_dir=tmp_path, file_format="tfrecord").download_and_prepare()
    with pytest.raises(ValueError, match="array_record"):
        Plain(data_dir=tmp_path).download_and_prepare(file_format="tfrecord")


def test_a_build_shows_frames_rate_and_time_left(tmp_path, monkeypatch, capsys):
    clock = itertools.count(step=6)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    for name in ("a", "b"):
        for number in range(3):
            trees.write(tmp_path / name / f"{number}.png", trees.pixels(number, 16, 24))

    class Files(Plain, skip_registration=True):
        def _clips(self, dl_manager):
            clips = [
                files.ClipFiles(name, files.ImageFrames(files.numbered_frames(tmp_path / name)))
                for name in ("a", "b")
            ]
            return self._from_files({"train": clips[:1], "val": clips[1:]})

    Files(data_dir=tmp_path / "data").download_and_prepare()
    lines = capsys.readouterr().out.splitlines()
    assert "checking the files of 2 clips" in lines
    assert "6 frames, 0.0 GB before compression" in lines
    assert "3/6 frames  6.0 s each  0:00:18 left" in lines
    assert "5/6 frames  6.0 s each  0:00:06 left" in lines  # of both splits together
    assert lines.count("sorting and compressing the tiles of 3 frames") == 2


def test_free_space(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")(3e9, 1e9, 2e9)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    records.check_free_space(tmp_path, 1_900_000_000)
    with pytest.raises(OSError, match=rf"about 2\.1 GB, and 2\.0 GB are free.*{tmp_path}"):
        records.check_free_space(tmp_path, 2_100_000_000)


def test_bytes_of_a_frame():
    arrays = frame(flow=True)
    assert records.Layout((16, 24), flow=True).frame_bytes == sum(a.nbytes for a in arrays.values())
