"""REDS from a small tree of its layout."""

import collections
import shutil
import zipfile

import numpy as np
import pytest
import reference
import trees
from PIL import Image

from jaxvsr.data import parts
from jaxvsr.data.sources import TFDSClips
from jaxvsr.errors import InputError
from tfds_builders.reds import reds_dataset_builder

SIZE = (16, 24)
FOLDERS = {
    "sharp": 1,
    "blur": 1,
    "sharp_bicubic/X4": 4,
    "blur_bicubic/X4": 4,
}


def pixels(part, folder, clip, frame):
    scale = FOLDERS[folder]
    seed = [part == "val", list(FOLDERS).index(folder), clip, frame]
    return trees.pixels(seed, SIZE[0] // scale, SIZE[1] // scale)


def write(root, nested):
    for part, count in (("train", 21), ("val", 2)):
        top = root / part if nested else root
        for folder in FOLDERS:
            for clip in range(count):
                for frame in range(2):
                    path = top / f"{part}_{folder}" / f"{clip:03d}" / f"{frame:08d}.png"
                    trees.write(path, pixels(part, folder, clip, frame))


def zipped(root):
    """As the files are downloaded: each folder in a zip file of its own, below train/ or val/."""
    for folder in sorted(root.glob("*/*")):
        with zipfile.ZipFile(root / f"{folder.name}.zip", "w") as archive:
            for path in folder.rglob("*.png"):
                archive.write(path, path.relative_to(root))
    for part in ("train", "val"):
        shutil.rmtree(root / part)


def unpacked(root):
    """Each zip file unpacked into a folder of its own name."""
    zipped(root)
    for path in sorted(root.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(root / path.stem)
        path.unlink()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("flat")
    write(root, nested=False)
    return root


@pytest.fixture
def manual_dir(tree, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(tree, tmp_path / "manual")


def build(tmp_path, manual_dir, lq="sharp_bicubic", clips=()):
    config = reds_dataset_builder.RedsConfig(
        name="excerpt", lq=lq, num_train=21, num_val=2, num_frames=2, size=SIZE
    )
    config = parts.part_of(config, clips) if clips else config
    builder = reds_dataset_builder.Builder(data_dir=tmp_path / "data", config=config)
    return trees.build(builder, manual_dir)


def test_splits_share_the_records(tmp_path, tree):
    builder = build(tmp_path, tree)
    names = {
        split: [
            clip.name for clip in TFDSClips("reds/excerpt", split, str(tmp_path / "data")).clips
        ]
        for split in ("train", "reds4", "train_official", "val_official")
    }
    reds4 = ["000", "011", "015", "020"]
    official = [f"{clip:03d}" for clip in range(21)]
    assert names == {
        "train": [name for name in official if name not in reds4] + ["240", "241"],
        "reds4": reds4,
        "train_official": official,
        "val_official": ["240", "241"],
    }
    assert sum(split.num_examples for split in builder.info.splits.values()) == 23  # one a clip
    assert builder.info.metadata["degradation"] == "bicubic"


@pytest.mark.parametrize("lq", ["sharp_bicubic", "blur_bicubic", "blur"])
@pytest.mark.parametrize("layout", ["flat", "nested", "zipped", "unpacked"])
def test_frames_are_those_of_the_files(tmp_path, tree, layout, lq):
    root = tree
    if layout != "flat":
        root = tmp_path / "manual"
        write(root, nested=True)
    if layout == "zipped":
        zipped(root)
    if layout == "unpacked":
        unpacked(root)
    build(tmp_path, root, lq)
    folder = lq if lq == "blur" else f"{lq}/X4"
    for split, clip, place in (("reds4", 1, ("train", 11)), ("train", 18, ("val", 1))):
        source = TFDSClips("reds/excerpt", split, str(tmp_path / "data"))
        assert source.scale == FOLDERS[folder]
        frames = source.read(clip, [0, 1])
        for frame in (0, 1):
            expected = pixels(place[0], "sharp", place[1], frame)
            np.testing.assert_array_equal(frames["gt"][frame], expected)
            expected = pixels(place[0], folder, place[1], frame)
            np.testing.assert_array_equal(frames["lq"][frame], expected)


def test_a_part_needs_the_folders_of_its_clips_alone(tmp_path, manual_dir):
    for folder in ("val_sharp", "val_sharp_bicubic", "train_sharp/002", "train_blur"):
        shutil.rmtree(manual_dir / folder)
    build(tmp_path, manual_dir, clips=2)
    place = str(tmp_path / "data")
    train = TFDSClips("reds/excerpt-first2", "train", place)
    assert [clip.name for clip in train.clips] == ["001"]
    assert train.part == "part of reds/excerpt (19 clips)"
    np.testing.assert_array_equal(train.read(0, [1])["gt"][0], pixels("train", "sharp", 1, 1))
    assert TFDSClips("reds/excerpt-first2", "reds4", place).part == "part of reds/excerpt (4 clips)"
    build(tmp_path, manual_dir, clips=("000", "011"))
    reds4 = TFDSClips("reds/excerpt-000+011", "reds4", place)
    assert [clip.name for clip in reds4.clips] == ["000", "011"]
    empty = "no clip of split 'train'; expected one of: train_official, reds4, or more --clips"
    with pytest.raises(InputError, match=empty):
        TFDSClips("reds/excerpt-000+011", "train", place)
    with pytest.raises(InputError, match="no split 'valid'"):
        TFDSClips("reds/excerpt-000+011", "valid", place)


def test_the_validation_clips_are_a_part(tmp_path, manual_dir):
    shutil.rmtree(manual_dir / "train_sharp")
    build(tmp_path, manual_dir, clips=("241",))
    source = TFDSClips("reds/excerpt-241", "val_official", str(tmp_path / "data"))
    np.testing.assert_array_equal(source.read(0, [0])["gt"][0], pixels("val", "sharp", 1, 0))
    with pytest.raises(InputError, match="no clip '242'; clips have names from '000' to '241'"):
        build(tmp_path, manual_dir, clips=("242",))


def test_the_whole_is_the_official_one():
    default = reds_dataset_builder.Builder.BUILDER_CONFIGS[0]
    assert default.name == "sharp_bicubic"
    for config in reds_dataset_builder.Builder.BUILDER_CONFIGS:
        assert (config.num_train, config.num_val, config.num_frames) == (240, 30, 100)
        assert config.size == (720, 1280)
        assert config.lq == config.name


def test_splits_golden(tmp_path):
    _, _, arrays = reference.load("data_rules")
    builder = reds_dataset_builder.Builder(data_dir=tmp_path)
    views = builder._views(None)
    reds4 = [f"{clip:03d}" for clip in arrays["reds4"]]
    assert views["reds4"] == {"train_official": reds4}
    assert views["train"]["val_official"] == [f"{clip:03d}" for clip in arrays["official_val"]]
    names = views["train"]["train_official"]
    assert sorted(names + reds4) == [f"{clip:03d}" for clip in range(240)]
    assert sum(map(len, views["train"].values())) == 266


def test_says_early_when_the_disk_is_too_small(tmp_path, tree, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    needed = 23 * 2 * (16 * 24 + 4 * 6) * 3  # every frame once, though splits overlap
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, needed - 1))
    with pytest.raises(OSError, match="free some space, or choose another --data_dir"):
        build(tmp_path, tree)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, needed))
    build(tmp_path, tree)


def test_refuses_an_unknown_lq():
    with pytest.raises(ValueError, match="sharp_bicubic, blur_bicubic, blur, got 'jpeg'"):
        reds_dataset_builder.RedsConfig(name="mine", lq="jpeg")


def missing_part(root):
    shutil.rmtree(root)
    (root / "elsewhere").mkdir(parents=True)


def level_above(root):
    for path in list(root.iterdir()):
        shutil.move(path, root / "REDS" / path.name)


def broken_download(root):
    shutil.rmtree(root / "train_sharp")
    (root / "train_sharp.zip").write_bytes(b"PK\3\4 the beginning")


def missing_clip(root):
    shutil.rmtree(root / "val_sharp/001")


def missing_frame(root):
    (root / "train_sharp/001/00000001.png").unlink()


def cut_frame(root):
    path = root / "val_sharp_bicubic/X4/001/00000001.png"
    path.write_bytes(path.read_bytes()[:-20])


def spoilt_frame(root):
    path = root / "train_sharp/020/00000001.png"
    data = bytearray(path.read_bytes())
    data[60:200] = bytes(140)
    path.write_bytes(data)


def grey_frame(root):
    Image.new("L", (24, 16)).save(root / "train_sharp/001/00000001.png")


def two_sizes(root):
    trees.write(root / "train_sharp/001/00000001.png", trees.pixels(0, 16, 28))


def other_size(root):
    for frame in (0, 1):
        trees.write(root / f"train_sharp/001/{frame:08d}.png", trees.pixels(0, 16, 28))
        trees.write(root / f"train_sharp_bicubic/X4/001/{frame:08d}.png", trees.pixels(0, 4, 7))


def wrong_reduction(root):
    for frame in (0, 1):
        trees.write(root / f"train_sharp_bicubic/X4/001/{frame:08d}.png", trees.pixels(0, 8, 12))


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (missing_part, FileNotFoundError, r"train_sharp or .* found elsewhere(.|\n)*seungjunnah"),
        (level_above, FileNotFoundError, r"manual/REDS has it: give that folder instead"),
        (broken_download, ValueError, "train_sharp.zip is damaged or incomplete"),
        (missing_clip, FileNotFoundError, "no file .*val_sharp/001/00000000.png"),
        (missing_frame, FileNotFoundError, "no file .*train_sharp/001/00000001.png"),
        (cut_frame, ValueError, "X4/001/00000001.png is truncated"),
        (spoilt_frame, ValueError, "train_sharp/020/00000001.png is damaged"),
        (
            grey_frame,
            ValueError,
            "001/00000001.png is a PNG file of 8-bit grey, expected 8-bit RGB",
        ),
        (two_sizes, ValueError, "001/00000001.png is 16x28, but its clip began with 16x24"),
        (other_size, ValueError, "clip 001 is 16x28, but the data set's frames are 16x24"),
        (wrong_reduction, ValueError, "clip 001: .* lq must have 2 of 4x6, not 2 of 8x12"),
    ],
)
def test_refuses(tmp_path, manual_dir, monkeypatch, damage, error, words):
    damage(manual_dir)
    if damage is not spoilt_frame:  # which is seen when it is decoded, and not before
        monkeypatch.setattr(Image, "open", None)
    with pytest.raises(error, match=words):
        build(tmp_path, manual_dir)
    assert not trees.left_behind(tmp_path / "data")


def test_says_where_the_data_are(tmp_path):
    with pytest.raises(AssertionError, match="seungjunnah"):
        build(tmp_path, tmp_path / "nowhere")
