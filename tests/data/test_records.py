"""The record layout: what is written is read back, in order, and what is wrong is refused."""

import collections
import io
import pathlib
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import dataset_info, shuffle

from jaxvsr.data import records


class Plain(records.ClipBuilder, skip_registration=True):
    """Clips handed to the class, of any size."""

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
        "clips": {
            "train": [["b", 3, 16, 24], ["a/1", 2, 32, 8], ["c", 1, 16, 24]],
            "val": [["b", 1, 16, 24]],
        },
    }
    assert builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD
    train = builder.as_data_source("train")
    assert [int(record["gt"][0, 0, 0]) for record in train] == [0, 1, 2, 10, 11, 20]
    record = train[4]
    assert record["key"] == b"a/1/00000001"
    assert record["gt"].shape == (32, 8, 3) and record["gt"].dtype == np.uint8
    assert record["lq"].shape == (8, 2, 3) and record["lq"].dtype == np.uint8


def test_flow_is_stored_as_it_is_and_can_be_skipped(tmp_path):
    frames = [frame(i, flow=True) for i in range(2)]
    builder = build(tmp_path, {"train": [("a", frames)]}, Flowing)
    record = builder.as_data_source("train")[1]
    for name, expected in frames[1].items():
        assert record[name].dtype == expected.dtype
        np.testing.assert_array_equal(record[name], expected)
    skip = {name: tfds.decode.SkipDecoding() for name in ("flow_forward", "flow_backward")}
    record = builder.as_data_source("train", decoders=skip)[1]
    assert isinstance(record["flow_forward"], bytes)
    np.testing.assert_array_equal(record["gt"], frames[1]["gt"])


def test_a_split_too_large_for_memory_keeps_its_order(tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 0)
    monkeypatch.setattr(records, "_KEY_UNIT", 2**128 // 10_000)  # a bucket for each 10 bytes
    buckets = collections.Counter()
    add = shuffle._Bucket.add
    monkeypatch.setattr(
        shuffle._Bucket, "add", lambda bucket, *data: buckets.update([bucket]) or add(bucket, *data)
    )
    frames = [frame(i, (4, 4)) for i in range(30)]
    builder = build(tmp_path, {"train": [("a", frames)]})
    values = [int(record["gt"][0, 0, 0]) for record in builder.as_data_source("train")]
    assert values == list(range(30))
    assert len(buckets) == 30


def test_keys_put_a_gigabyte_into_a_temporary_file():
    unit = records._KEY_UNIT
    assert shuffle.get_bucket_number(10**9 * unit, 1000) == 0
    assert shuffle.get_bucket_number(100 * 10**9 * unit, 1000) == 90
    assert shuffle.get_bucket_number(10**13 * unit, 1000) == 999


def test_a_build_cut_short_on_request_has_an_index_of_what_is_there(tmp_path):
    clips = {"train": [(name, [frame(), frame()]) for name in "abc"]}
    builder = build(tmp_path, clips, max_examples_per_split=3)
    assert len(builder.as_data_source("train")) == 3
    assert builder.info.metadata["clips"]["train"] == [["a", 2, 16, 24], ["b", 1, 16, 24]]


def test_an_interrupted_build_is_not_taken_for_a_whole_one(tmp_path):
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


def test_free_space(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")(3e9, 1e9, 2e9)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    records.check_free_space(tmp_path, 1_900_000_000)
    with pytest.raises(OSError, match=rf"about 2\.1 GB, and 2\.0 GB are free.*{tmp_path}"):
        records.check_free_space(tmp_path, 2_100_000_000)


def test_bytes_of_a_frame():
    arrays = frame(flow=True)
    assert records.Layout((16, 24), flow=True).frame_bytes == sum(a.nbytes for a in arrays.values())


def test_find_folder(tmp_path):
    (tmp_path / "train" / "sharp").mkdir(parents=True)
    assert records.find_folder(tmp_path, "sharp", "train/sharp") == tmp_path / "train" / "sharp"
    with pytest.raises(FileNotFoundError, match=r"blur or val/blur in .*found \['train'\]"):
        records.find_folder(tmp_path, "blur", "val/blur")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        records.find_folder(tmp_path / "nowhere", "sharp")


def png(array, **options):
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG", **options)
    return data.getvalue()


def test_read_png(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(png(pixels))
    np.testing.assert_array_equal(records.read_png(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a PNG file"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "not a PNG file"),
        (png(np.zeros((4, 4), np.uint8)), "not a PNG file of 8-bit RGB"),
        (png(np.zeros((4, 4, 4), np.uint8)), "not a PNG file of 8-bit RGB"),
        (png(np.zeros((4, 4), np.uint16)), "not a PNG file of 8-bit RGB"),
        (png(np.zeros((4, 4, 3), np.uint8))[:24] + b"\x10\x02", "not a PNG file of 8-bit RGB"),
        (png(np.arange(12288).reshape(64, 64, 3).astype(np.uint8))[:100], "damaged"),
        (png(np.zeros((4, 4, 3), np.uint8))[:30], "damaged"),
    ],
)
def test_refuses_files(tmp_path, data, words):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path))}/a.png.* {words}"):
        records.read_png(tmp_path / "a.png")


def test_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="a.png"):
        records.read_png(tmp_path / "a.png")
