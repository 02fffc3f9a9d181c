"""`jaxvsr data`: data sets by name, errors in a line."""

import pathlib
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import trees
from PIL import Image

from jaxvsr import cli, prepare
from jaxvsr.config import load_config
from jaxvsr.data.opening import open_clips
from jaxvsr.data.sources import TFDSClips
from jaxvsr.errors import InputError
from jaxvsr.locks import locked
from jaxvsr.models.miavsr import MIAVSR
from jaxvsr.preflight import check_samples

REPOSITORY = pathlib.Path(__file__).parents[1]


def test_a_data_set_is_prepared_once(tmp_path, capsys):
    words = ["dead_leaves/test", f"--data_dir={tmp_path}"]
    for _ in range(2):
        assert cli.run_command(prepare.command("data"), words) == 0
        out = capsys.readouterr().out
        assert f"prepared: {tmp_path}/dead_leaves/test/" in out
        assert "--config.eval.dataset=dead_leaves/test\nsplits: train, val\n" in out
    assert len(TFDSClips("dead_leaves/test", "train", str(tmp_path)).clips) == 2


def test_clips_of_ones_own_are_described_by_json(tmp_path):
    for clip in ("a", "b"):
        for frame in range(2):
            trees.write(tmp_path / "gt" / clip / f"{frame}.png", trees.pixels(frame, 16, 24))
    folder = prepare.prepare(
        "frames",
        config=f'{{"name": "mine", "gt": "{tmp_path}/gt", "val": ["b"]}}',
        data_dir=str(tmp_path / "data"),
    )
    assert folder.is_relative_to(tmp_path / "data" / "frames" / "mine")
    source = TFDSClips("frames/mine", "val", str(tmp_path / "data"))
    np.testing.assert_array_equal(source.read(0, [1])["gt"][0], trees.pixels(1, 16, 24))


def test_the_documented_lines_train_any_config_on_clips_of_ones_own(tmp_path):
    for clip in ("a_clip", "another", "third"):
        for frame in range(4):
            path = tmp_path / "clips" / clip / f"take 2, {frame} of 4.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(trees.pixels(frame, 64, 96)).save(path)
    page = (REPOSITORY / "docs/data.md").read_text().split("### Your own clips")[1]
    lines = [shlex.split(line) for line in page.split("\n\n")[1].splitlines()]
    (data, words), (train, flags) = ((line[1], line[2:]) for line in lines[:2])
    assert (data, train) == ("data", "train")
    words = [word.replace("/my/clips", str(tmp_path / "clips")) for word in words]
    assert cli.run_command(prepare.command("data"), [*words, f"--data_dir={tmp_path}"]) == 0
    overrides, rest = cli.split_overrides([*flags, f"--config.data.dir={tmp_path}"])
    config = load_config(rest[0].removeprefix("--config="), overrides)
    for section, names in ((config.data, ["third"]), (config.eval, ["a_clip", "another"])):
        source = open_clips(section.dataset, section.split, config.data.dir)
        assert [clip.name for clip in source.clips] == names
    check_samples(config.data, open_clips("frames/mine", "train", str(tmp_path)), MIAVSR())


@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        ("dead_laves", {}, "unknown data set 'dead_laves'; did you mean 'dead_leaves'"),
        ("xyz", {}, "unknown data set 'xyz'; expected one of: dead_leaves, frames, reds"),
        ("REDS", {}, "unknown data set 'REDS'; did you mean 'reds'"),
        ("Vid4", {}, "unknown data set 'Vid4'; did you mean 'test_sets/vid4'"),
        (
            "frames/mine",
            {},
            r"""no config 'mine'; give the folder .*--config='\{"name": "mine", """,
        ),
        ("dead_leaves/test", {"clips": "1"}, "--clips is for reds, .*'dead_leaves' has no parts"),
        ("/a/b.lmdb,c.lmdb", {}, "LMDB folders are read as they are: --config.data.dataset=/a/b"),
        ("reds", {"clips": "0"}, "--clips must be names of clips"),
        ("reds", {"clips": "300"}, "--clips=300: there are 270 clips"),
        ("reds/blur-000+270", {}, "there is no clip '270'; clips have names from '000' to '269'"),
        ("reds", {"config": '{"name": "a", "clips": ["000"]}'}, "choose clips by --clips"),
        ("dead_leaves/smal", {}, "'dead_leaves' has no config 'smal'; did you mean 'small'"),
        ("frames", {}, "frames: name the folder of clips: --config="),
        ("frames", {"config": "{name}"}, "--config is not JSON: .*; got '{name}'"),
        ("frames", {"config": "[1]"}, '--config must be JSON fields with a "name"; got'),
        ("frames", {"config": '{"gt": "/a"}'}, '--config must be JSON fields with a "name"'),
        ("frames", {"config": '{"name": "a", "vall": []}'}, "no field 'vall'; did you mean 'val'"),
        ("frames", {"config": '{"name": "a", "scale": "4"}'}, "scale must be an integer; got '4'"),
        ("frames", {"config": '{"name": "a", "val": "b"}'}, "val must be a list of names"),
        ("frames", {"config": '{"name": "../../../x", "gt": "/"}'}, "name of a config must have"),
        ("frames", {"config": '{"name": "/tmp/x", "gt": "/"}'}, "name of a config must have"),
        ("frames", {"config": '{"name": "..", "gt": "/"}'}, "name of a config must have"),
        ("frames", {"config": '{"name": ".a", "gt": "/"}'}, "name of a config must have"),
        ("dead_leaves/../../x", {}, "has no config '../../x'"),
        ("../x", {}, "unknown data set '..'"),
        ("frames", {"config": '{"name": "mine", "gt": "nowhere"}'}, "no folder nowhere"),
        ("reds", {"manual_dir": "nowhere"}, "reds: .*nowhere"),
    ],
)
def test_what_cannot_be_prepared_is_explained(dataset, settings, message, tmp_path):
    with pytest.raises(InputError, match=message):
        prepare.prepare(dataset, data_dir=str(tmp_path / "a" / "b" / "c"), **settings)
    assert not trees.left_behind(tmp_path)
    folders = {path.name for path in tmp_path.glob("a/b/c/*/*")}
    assert folders <= {".config", "extracted"}  # TFDS's own; none of the data set


def test_make_data_is_jaxvsr_data():
    flags = {"config": '{"name": "x, y"}', "clips": "0,1", "manual_dir": "~/a b", "data_dir": "c"}
    given = [f"{name.upper()}={value}" for name, value in flags.items()]
    command = [
        "make",
        "--dry-run",
        "--no-print-directory",
        "data",
        "DATASET=frames",
        "VENV=.",
        *given,
    ]
    shown = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    words = shlex.split(shown.stdout.replace("\\\n", " "))
    words = words[words.index("jaxvsr") :]
    assert words == ["jaxvsr", "data", "frames", *(f"--{k}={v}" for k, v in flags.items())]
    assert set(flags) == set(prepare.command("data").flags)


def test_every_error_is_one_line(tmp_path, capsys):
    """Also of TFDS's own command line, which this package's builders work with."""
    (tmp_path / "train_sharp").mkdir()
    fields = f'--config={{"name": "mine", "gt": "{tmp_path}"}}'
    data_dir = f"--data_dir={tmp_path / 'data'}"
    for words in (["frames", fields], ["reds", f"--manual_dir={tmp_path}"]):
        assert cli.run_command(prepare.command("data"), [*words, data_dir]) == 1
        ours = capsys.readouterr().err
        assert ours.count("\n") == 1
    command = [sys.executable, "-m", "tfds_builders", "tfds_builders/reds", *words[1:], data_dir]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (theirs,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert ours.strip().endswith(theirs.removeprefix("error: "))


@pytest.mark.parametrize(
    "name", ["dataset_info.json", "features.json", "dead_leaves-val.array_record-00000-of-00001"]
)
def test_a_damaged_data_set_is_not_taken_for_a_prepared_one(tmp_path, data_dir, name):
    shutil.copytree(data_dir / "dead_leaves", tmp_path / "dead_leaves")
    prepare.prepare("dead_leaves/test", data_dir=str(tmp_path))
    path = tmp_path / "dead_leaves/test/3.0.0" / name
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(InputError, match=r"damaged: remove (that|the) folder") as raised:
        prepare.prepare("dead_leaves/test", data_dir=str(tmp_path))
    assert "\n" not in str(raised.value)
    shutil.rmtree(tmp_path / "dead_leaves" / "test")
    prepare.prepare("dead_leaves/test", data_dir=str(tmp_path))


def test_the_second_of_two_builds_is_refused_and_a_killed_one_is_removed(tmp_path):
    path = tmp_path / "dead_leaves" / "test" / ".3.0.0.lock"
    half = path.with_name("incomplete.ABC123_3.0.0")
    half.mkdir(parents=True)
    (half / "dead_leaves-train.array_record").write_bytes(b"half")
    with locked(path, "preparing"), pytest.raises(InputError, match="is preparing dead_leaves/"):
        prepare.prepare("dead_leaves/test", data_dir=str(tmp_path))
    assert half.exists()
    prepare.prepare("dead_leaves/test", data_dir=str(tmp_path))
    assert [child.name for child in path.parent.iterdir()] == ["3.0.0"]
