"""`jaxvsr data`: data sets by name, errors in a line."""

import numpy as np
import pytest
import trees

from jaxvsr import cli, prepare
from jaxvsr.data.sources import TFDSClips
from jaxvsr.errors import InputError


def test_a_data_set_is_prepared_once(tmp_path, capsys):
    words = ["dead_leaves/test", f"--data_dir={tmp_path}"]
    for _ in range(2):
        assert cli.run_command(prepare.command("data"), words) == 0
        assert f"prepared: {tmp_path}/dead_leaves/test/" in capsys.readouterr().out
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


@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        ("dead_laves", {}, "unknown data set 'dead_laves'; did you mean 'dead_leaves'"),
        ("xyz", {}, "unknown data set 'xyz'; expected one of: dead_leaves, frames, reds"),
        ("dead_leaves/smal", {}, "'dead_leaves' has no config 'smal'; did you mean 'small'"),
        ("frames", {}, "frames: name the folder of clips: --config="),
        ("frames", {"config": "{name}"}, "frames: "),
        ("frames", {"config": '{"name": "mine", "gt": "nowhere"}'}, "no folder nowhere"),
        ("reds", {"manual_dir": "nowhere"}, "reds: .*nowhere"),
    ],
)
def test_what_cannot_be_prepared_is_explained(dataset, settings, message, tmp_path):
    with pytest.raises(InputError, match=message):
        prepare.prepare(dataset, data_dir=str(tmp_path), **settings)
    assert not trees.left_behind(tmp_path)
