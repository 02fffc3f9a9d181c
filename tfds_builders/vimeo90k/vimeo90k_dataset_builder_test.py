"""Vimeo-90K from a small tree of its layout."""

import shutil

import numpy as np
import pytest
import trees

from jaxvsr.data import degradations, parts
from jaxvsr.data.degradations import imresize
from jaxvsr.data.sources import TFDSClips
from tfds_builders.vimeo90k import vimeo90k_dataset_builder

SIZE = (16, 24)


def pixels(clip, frame):
    return trees.pixels([clip, frame], *SIZE)


@pytest.fixture
def manual_dir(tmp_path):
    root = tmp_path / "vimeo" / "vimeo_septuplet"
    for clip in (1, 2, 3):
        for frame in range(1, 8):
            place = root / "sequences" / "00001" / f"{clip:04d}"
            trees.write(place / f"im{frame}.png", pixels(clip, frame))
    (root / "sep_trainlist.txt").write_text("00001/0003\r\n00001/0001\r\n")
    (root / "sep_testlist.txt").write_text("00001/0002\n\n")
    return root


def build(tmp_path, manual_dir, clips=(), **fields):
    config = vimeo90k_dataset_builder.Vimeo90kConfig(name="excerpt", size=SIZE, **fields)
    config = parts.part_of(config, clips) if clips else config
    builder = vimeo90k_dataset_builder.Builder(data_dir=tmp_path / "data", config=config)
    return trees.build(builder, manual_dir)


@pytest.mark.parametrize("level", ["vimeo_septuplet", "vimeo", "zip"])
def test_splits(tmp_path, manual_dir, level):
    root = manual_dir if level == "vimeo_septuplet" else manual_dir.parent
    if level == "zip":
        shutil.make_archive(root / "vimeo_septuplet", "zip", root, "vimeo_septuplet")
        shutil.rmtree(manual_dir)
    builder = build(tmp_path, root)
    assert builder.info.metadata["clips"] == {
        "train": [["00001/0003", 7, 16, 24], ["00001/0001", 7, 16, 24]],
        "test": [["00001/0002", 7, 16, 24]],
    }
    frames = TFDSClips("vimeo90k/excerpt", "train", str(tmp_path / "data")).read(1, range(7))
    expected = np.stack([pixels(1, frame) for frame in range(1, 8)])
    np.testing.assert_array_equal(frames["gt"], expected)
    np.testing.assert_array_equal(frames["lq"], imresize(expected, 1 / 4))
    assert builder.info.splits["test"].num_examples == 1  # seven frames to a record


def test_clean_frames_are_stored_once(tmp_path, manual_dir):
    builder = build(tmp_path, manual_dir, degradation="none")
    assert builder.info.metadata["scale"] == 1 and "lq" not in builder.info.features
    frames = TFDSClips("vimeo90k/excerpt", "test", str(tmp_path / "data")).read(0, [6])
    np.testing.assert_array_equal(frames["lq"][0], pixels(2, 7))


def test_subsets_are_splits_of_the_same_records(tmp_path, manual_dir):
    (manual_dir / "sep_fast_testset.txt").write_text("00001/0002\n")
    builder = build(tmp_path, manual_dir)
    assert builder.info.metadata["views"] == {"fast": {"test": ["00001/0002"]}}
    source = TFDSClips("vimeo90k/excerpt", "fast", str(tmp_path / "data"))
    np.testing.assert_array_equal(source.read(0, [3])["gt"][0], pixels(2, 4))


def test_a_part_has_the_first_clips_of_each_list(tmp_path, manual_dir):
    (manual_dir / "sep_fast_testset.txt").write_text("00001/0002\n")
    shutil.rmtree(manual_dir / "sequences" / "00001" / "0001")
    metadata = build(tmp_path, manual_dir, clips=1).info.metadata
    stored = {split: [name for name, *_ in clips] for split, clips in metadata["clips"].items()}
    assert stored == {"train": ["00001/0003"], "test": ["00001/0002"]}
    counts = {"train": 2, "test": 1, "fast": 1}
    assert metadata["part"] == {"of": "vimeo90k/excerpt", "clips": counts}
    assert build(tmp_path, manual_dir, clips=("00001/0003",)).info.metadata["views"] == {}


def test_a_subset_of_other_clips_is_refused(tmp_path, manual_dir):
    (manual_dir / "sep_slow_testset.txt").write_text("00001/0003\n")
    with pytest.raises(ValueError, match="sep_slow_testset.txt names '00001/0003', which is no"):
        build(tmp_path, manual_dir)


def test_bd_is_the_blur_of_the_degradations(tmp_path, manual_dir, monkeypatch):
    def blur_downsample(frames, kind):
        return frames[1::4, 2::4] if kind == "bd" else None

    monkeypatch.setattr(degradations, "blur_downsample", blur_downsample, raising=False)
    builder = build(tmp_path, manual_dir, degradation="bd")
    assert builder.info.metadata["degradation"] == "bd"
    frames = TFDSClips("vimeo90k/excerpt", "test", str(tmp_path / "data")).read(0, [6])
    np.testing.assert_array_equal(frames["lq"], frames["gt"][:, 1::4, 2::4])


@pytest.mark.parametrize(
    ("degradation", "place"),
    [("bicubic", "../vimeo_septuplet_matlabLRx4/sequences"), ("bicubic", "BIx4"), ("bd", "BDx4")],
)
def test_reads_given_low_resolution_frames(tmp_path, manual_dir, degradation, place):
    for clip in (1, 2, 3):
        for frame in range(1, 8):
            path = manual_dir / place / "00001" / f"{clip:04d}" / f"im{frame}.png"
            trees.write(path, trees.pixels([7, clip, frame], 4, 6))
    build(tmp_path, manual_dir, degradation=degradation, given=True)
    frames = TFDSClips("vimeo90k/excerpt", "test", str(tmp_path / "data")).read(0, [2])
    np.testing.assert_array_equal(frames["lq"][0], trees.pixels([7, 2, 3], 4, 6))


@pytest.mark.parametrize("name", ["../../secret", "/etc", "00001/0001/..", "00001", "1/1"])
def test_refuses_names_that_lead_elsewhere(tmp_path, manual_dir, name):
    (manual_dir / "sep_testlist.txt").write_text(f"00001/0002\n{name}\n")
    with pytest.raises(ValueError, match="sep_testlist.txt names '.*', expected names such as"):
        build(tmp_path, manual_dir)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "sep_testlist.txt names no clips"), ("00001/0002\n" * 2, "names clips twice")],
)
def test_refuses_lists(tmp_path, manual_dir, text, words):
    (manual_dir / "sep_testlist.txt").write_text(text)
    with pytest.raises(ValueError, match=words):
        build(tmp_path, manual_dir)
    assert not trees.left_behind(tmp_path / "data")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("sequences", r"sequences or .*sep_testlist.txt(.|\n)*toflow"),
        ("sep_trainlist.txt", r"sep_trainlist.txt(.|\n)*toflow"),
        ("sequences/00001/0003", "sequences/00001/0003/im1.png"),
        ("sequences/00001/0002/im7.png", "00001/0002/im7.png"),
    ],
)
def test_says_what_is_missing(tmp_path, manual_dir, missing, words):
    path = manual_dir / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError, match=words):
        build(tmp_path, manual_dir)


def test_says_that_no_low_resolution_frames_are_given(tmp_path, manual_dir):
    with pytest.raises(FileNotFoundError, match="vimeo_septuplet_matlabLRx4/sequences or "):
        build(tmp_path, manual_dir, given=True)


def test_refuses_other_sizes(tmp_path, manual_dir):
    path = manual_dir / "sequences" / "00001" / "0002" / "im5.png"
    trees.write(path, trees.pixels(0, 20, 24))
    with pytest.raises(ValueError, match="00001/0002/im5.png is 20x24"):
        build(tmp_path, manual_dir)
