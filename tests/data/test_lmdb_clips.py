"""LMDB folders in the layout of BasicSR's `create_lmdb.py`."""

import itertools
import pickle
import shutil
import sys

import ml_collections
import numpy as np
import pytest
import trees

from jaxvsr.data import pipeline
from jaxvsr.data.lmdb_clips import LmdbClips
from jaxvsr.data.opening import open_clips, short_name
from jaxvsr.data.sources import Clip
from jaxvsr.errors import InputError

lmdb = pytest.importorskip("lmdb")

CLIPS = ("000", "001", "011", "015", "020")
HR, LR = (16, 24), (4, 6)


def pixels(clip, frame, size):
    return trees.pixels([int(clip), frame, size[0]], *size)


def write(folder, images, lines=()):
    """Writes {key: (h, w, 3) or bytes} as `make_lmdb_from_imgs` does; lines replace those of it."""
    environment = lmdb.open(str(folder), map_size=2**20, sync=False)
    with environment.begin(write=True) as transaction:
        for key, image in images.items():
            data = image if isinstance(image, bytes) else trees.png(image)
            transaction.put(key.encode("ascii"), data)
    environment.close()
    shapes = {key: HR if isinstance(x, bytes) else x.shape[:2] for key, x in images.items()}
    meta = [f"{key}.png ({h},{w},3) 1" for key, (h, w) in shapes.items()]
    (folder / "meta_info.txt").write_text("".join(f"{line}\n" for line in lines or meta))
    return folder


def images(size, clips=CLIPS, length=3, above=""):
    return {
        f"{above}{clip}/{frame:08d}": pixels(clip, frame, size)
        for clip in clips
        for frame in range(length)
    }


@pytest.fixture(scope="module")
def reds(tmp_path_factory):
    root = tmp_path_factory.mktemp("lmdb")
    gt = write(root / "train_sharp_with_val.lmdb", images(HR))
    lq = write(root / "train_sharp_bicubic_with_val.lmdb", images(LR))
    return f"{gt},{lq}"


def test_frames_are_those_of_the_images(reds):
    source = open_clips(reds, "reds4")
    assert source.clips == tuple(Clip(name, 3, *HR) for name in ("000", "011", "015", "020"))
    assert (source.scale, source.degradation, source.part) == (4, "bicubic", "")
    frames = source.read(1, [2, 0])
    for number, frame in enumerate((2, 0)):
        np.testing.assert_array_equal(frames["gt"][number], pixels("011", frame, HR))
        np.testing.assert_array_equal(frames["lq"][number], pixels("011", frame, LR))
    window = source.read(1, [2], 1, 2, (3, 4))
    np.testing.assert_array_equal(window["gt"], frames["gt"][:1, 4:16, 8:24])
    np.testing.assert_array_equal(window["lq"], frames["lq"][:1, 1:4, 2:6])
    with pytest.raises(IndexError, match="clip 011 has 3 frames of 4x6"):
        source.read(1, [3])
    completed = reds.replace(",", "/,") + "/"  # as a shell completes the names of folders
    assert open_clips(completed, "reds4").clips == source.clips
    assert short_name(completed) == short_name(reds)


@pytest.mark.parametrize(
    ("split", "clips"), [("all", CLIPS), ("train", ("001",)), ("015,001", ("015", "001"))]
)
def test_splits(reds, split, clips):
    source = LmdbClips(reds, split)
    assert tuple(clip.name for clip in source.clips) == clips
    assert source.part == ("part of train_sharp_with_val.lmdb (5 clips)" if "," in split else "")


def test_other_data_sets_have_no_reds4(tmp_path):
    gt, lq = write(tmp_path / "a.lmdb", images(HR, "12")), tmp_path / "bd_BDx4.lmdb"
    write(lq, images(LR, "12", above="X4/"))
    source = LmdbClips(f"{gt},{lq}", "train")
    assert [clip.name for clip in source.clips] == ["1", "2"] and source.degradation == "bd"
    np.testing.assert_array_equal(source.read(1, [1])["lq"][0], pixels("2", 1, LR))
    with pytest.raises(InputError, match="no split or clip 'reds4'; expected train, all, or names"):
        LmdbClips(f"{gt},{lq}", "reds4")


def test_a_reading_process_opens_the_folders_again(reds):
    source = LmdbClips(reds, "all")
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read(0, [0])["gt"], source.read(0, [0])["gt"])


def test_files_are_named_after_the_targets(reds):
    assert short_name(reds) == "train_sharp_with_val"
    assert short_name("reds/blur") == "reds_blur"


def test_the_package_is_named_where_it_is_missing(tmp_path, monkeypatch):
    pair = f"{write(tmp_path / 'a.lmdb', images(HR))},{write(tmp_path / 'b.lmdb', images(LR))}"
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(InputError, match=r"need a package: pip install 'jaxvsr\[lmdb\]'"):
        LmdbClips(pair, "all")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    return write(root / "gt.lmdb", images(HR)), write(root / "lq.lmdb", images(LR))


def one_folder(gt, lq):
    return str(gt)


def no_folder(gt, lq):
    shutil.rmtree(lq)


def no_meta(gt, lq):
    (lq / "meta_info.txt").unlink()


def empty_meta(gt, lq):
    (gt / "meta_info.txt").write_text("")


def binary_meta(gt, lq):
    (gt / "meta_info.txt").write_bytes(b"\xff\xfe\x00")


def no_database(gt, lq):
    (gt / "data.mdb").write_bytes(b"abcd" * 3000)


def truncated(gt, lq):
    size = (gt / "data.mdb").stat().st_size
    with (gt / "data.mdb").open("r+b") as file:
        file.truncate(size - 4096)


def rewrite(folder, changed=None, lines=(), **more):
    shutil.rmtree(folder)
    size = HR if folder.name == "gt.lmdb" else LR
    write(folder, images(size, **more) | (changed or {}), lines)


def line(text):
    return lambda gt, lq: (gt / "meta_info.txt").write_text(f"{text}\n")


def incomplete(gt, lq):
    with (gt / "meta_info.txt").open("a") as file:
        file.write("021/00000000.png (16,24,3) 1\n")


def other_clips(gt, lq):
    rewrite(lq, clips=CLIPS[:-1])


def fewer_frames(gt, lq):
    rewrite(gt, length=1)


def gap(gt, lq):
    rewrite(gt, {"000/00000005": pixels("000", 5, HR)})


def no_multiple(gt, lq):
    shutil.rmtree(lq)
    write(lq, images((5, 6)))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (one_folder, "given as a pair, GT.lmdb,LQ.lmdb: targets and inputs; got"),
        (no_folder, "there is no LMDB folder .*/lq.lmdb: it must hold data.mdb and meta_info.txt"),
        (no_meta, "lq.lmdb/meta_info.txt cannot be read"),
        (empty_meta, "gt.lmdb/meta_info.txt lists no images"),
        (binary_meta, "gt.lmdb/meta_info.txt cannot be read"),
        (no_database, "gt.lmdb is damaged, or not an LMDB folder"),
        (truncated, r"gt.lmdb is truncated: data.mdb has \d+ of \d+ bytes"),
        (line("../../etc/00000000.png (16,24,3) 1"), "line 1: expected a line such as"),
        (line("/etc/passwd.png (16,24,3) 1"), "line 1: expected a line such as"),
        (line("a/../../b/0.png (16,24,3) 1"), "line 1: expected a line such as"),
        (line("0001_s001.png (480,480,3) 1"), "expected a line such as .*an RGB image of a clip"),
        (line("000/00000000.png (16,24,1) 1"), "line 1: expected a line such as"),
        (line("000/00000000.png (999999,999999,3) 1"), "an image of 999999x999999 pixels"),
        (line("000/00000000.png (0,24,3) 1"), "an image of 0x24 pixels"),
        (line("000/0.png (16,24,3) 1\n000/1.png (16,28,3) 1"), "line 2: .* frames of two sizes"),
        (line("000/0.png (16,24,3) 1\n000/00.png (16,24,3) 1"), "'000/00' has .* a repeated one"),
        (line(f"000/{'0' * 600}.png (16,24,3) 1"), "line 1: a key of more than 511 bytes"),
        (line("000/a.png (16,24,3) 1"), "'000/a' has no frame index at its end"),
        (incomplete, "is incomplete: its meta_info.txt lists 16 images, data.mdb has 15"),
        (other_clips, "clip 020 is in .*/gt.lmdb, not in .*/lq.lmdb"),
        (fewer_frames, "has 1 frames in .*gt.lmdb, 3 in .*lq.lmdb: expected targets of all frames"),
        (gap, "clip 000 has no frame 3"),
        (no_multiple, "clip 000 is 16x24 in .* no multiple of 5x6"),
    ],
)
def test_refuses(tmp_path, pair, damage, words):
    gt, lq = (shutil.copytree(folder, tmp_path / folder.name) for folder in pair)
    dataset = damage(gt, lq)
    dataset = dataset if isinstance(dataset, str) else f"{gt},{lq}"
    with pytest.raises(InputError, match=words) as raised:
        LmdbClips(dataset, "all")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"junk", "000/00000001.png is not a PNG file"),
        (b"", "000/00000001.png is not a PNG file"),
        (bytes(2**17), "damaged: image '000/00000001' of 16x24 has 131072 bytes"),
        (trees.png(trees.pixels(0, 90, 120)), "000/00000001.png is 90x120, expected 16x24"),
        (trees.png(np.zeros(HR, np.uint8)), "is a PNG file of 8-bit grey, expected 8-bit RGB"),
        (trees.png(pixels("000", 1, HR))[:200], "000/00000001.png is damaged"),
    ],
)
def test_images_are_checked_before_they_are_decoded(tmp_path, pair, image, words):
    gt = write(tmp_path / "gt.lmdb", images(HR) | {"000/00000001": image})
    source = LmdbClips(f"{gt},{pair[1]}", "all")
    source.read(0, [0])
    with pytest.raises(InputError, match=words):
        source.read(0, [1])


def test_a_listed_image_may_be_missing(tmp_path, pair):
    lines = [f"{key}.png (16,24,3) 1" for key in images(HR)]
    lines[:3] = [f"000/{frame}.png (16,24,3) 1" for frame in (6, 7, 8)]
    gt = write(tmp_path / "gt.lmdb", images(HR), lines)
    source = LmdbClips(f"{gt},{pair[1]}", "all")
    with pytest.raises(InputError, match="has no image '000/7', which its meta_info.txt lists"):
        source.read(0, [1])


def test_training_reads_the_folders(reds):
    fields = {"frames": 2, "crop": 12, "intervals": (1,), "reverse": True, "mirror": False}
    fields |= {"degradation": "", "batch": 2, "workers": 0, "dataset": reds}
    data, source = ml_collections.ConfigDict(fields), open_clips(reds, "train")
    (batch,) = itertools.islice(pipeline.training_batches(data, source, seed=0), 1)
    assert batch["gt"].shape == (2, 2, 12, 12, 3) and batch["lq"].shape == (2, 2, 3, 3, 3)
