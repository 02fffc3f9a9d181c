"""Logs of a run, and how they go on after it was killed."""

import contextlib
import io
import json
import os
import types

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.util.tensor_util import make_ndarray

from jaxvsr.config import defaults, fields, plain
from jaxvsr.errors import InputError
from jaxvsr.training.summaries import Summaries, make_workdir


def write(workdir, step, values):
    with contextlib.closing(Summaries(workdir, step)) as summaries:
        for done, value in values.items():
            summaries.scalars(done, {"loss": value})


def events(folder):
    """What TensorBoard reads."""
    return EventAccumulator(str(folder), {"tensors": 0}).Reload()


def lines_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def lines(workdir):
    return {line["step"]: line["loss"] for line in lines_of(workdir)}


def test_numbers_are_kept_to_the_last_digit_and_sent_to_tensorboard(tmp_path):
    values = {1: 1 / 3, 2: np.float32(0.1)}
    write(tmp_path, 0, values)
    assert lines(tmp_path) == {1: 1 / 3, 2: float(np.float32(0.1))}
    assert [event.step for event in events(tmp_path).Tensors("loss")] == [1, 2]


def test_a_number_that_is_not_finite_is_null(tmp_path):
    write(tmp_path, 0, {1: np.inf, 2: np.float32(np.nan)})
    assert lines(tmp_path) == {1: None, 2: None}


def test_lines_after_the_checkpoint_are_written_again(tmp_path):
    write(tmp_path, 0, {1: 1.0, 2: 2.0, 3: 3.0})
    write(tmp_path, 2, {3: 30.0})
    assert lines(tmp_path) == {1: 1.0, 2: 2.0, 3: 30.0}


def test_an_incomplete_line_of_a_killed_run_is_dropped(tmp_path):
    write(tmp_path, 0, {1: 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    write(tmp_path, 5, {6: 6.0})
    assert lines(tmp_path) == {1: 1.0, 6: 6.0}


@pytest.mark.parametrize(
    "damage", [b"", b"\n\n", b"\xff\xfe\n", b"[1, 2]\n7\nnull\n", b'{"step": "1"}\n', b"{}\n"]
)
def test_damaged_lines_are_dropped(tmp_path, damage):
    write(tmp_path, 0, {1: 1.0})
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(damage + path.read_bytes() + damage)
    write(tmp_path, 5, {6: 6.0})
    assert lines(tmp_path) == {1: 1.0, 6: 6.0}


def test_a_file_of_numbers_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(InputError, match=r"metrics\.jsonl cannot be written: Is a directory"):
        write(tmp_path, 0, {1: 1.0})
    (tmp_path / "metrics.jsonl").rmdir()
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(InputError, match=r"metrics\.jsonl is a pipe"):
        write(tmp_path, 0, {1: 1.0})


def test_the_report_of_a_checkpoint_is_a_run_of_its_own(tmp_path):
    """Its step may be an earlier one, which would end the curves of the training."""
    write(tmp_path, 0, {1: 1.0, 2: 2.0})
    with contextlib.closing(Summaries(tmp_path, None)) as summaries:
        summaries.scalars(1, {"loss": 10.0})
        summaries.baseline(1, "bicubic", {"loss": 20.0})
    assert lines(tmp_path) == {1: 1.0, 2: 2.0}
    for folder, expected in ((".", [1, 2]), ("eval", [10]), ("eval/bicubic", [20])):
        found = events(tmp_path / folder).Tensors("loss")
        assert [make_ndarray(event.tensor_proto) for event in found] == expected


def test_a_baseline_is_a_line_in_the_same_chart(tmp_path):
    with contextlib.closing(Summaries(tmp_path, 0)) as summaries:
        for step in (1, 2):
            summaries.scalars(step, {"eval/a/psnr": 30.0 + step})
            summaries.baseline(step, "bicubic", {"eval/a/psnr": 25.0})
    for folder in (tmp_path, tmp_path / "bicubic"):
        assert [event.step for event in events(folder).Tensors("eval/a/psnr")] == [1, 2]
    assert list(lines_of(tmp_path)[0]) == ["step", "eval/a/psnr"]


def test_a_run_shows_its_config(tmp_path):
    config = defaults()
    config.model.depths = (2, 2)
    (tmp_path / "mine").mkdir()
    with contextlib.closing(Summaries(tmp_path / "mine", 0)) as summaries:
        summaries.describe(0, config)
    found = events(tmp_path / "mine")
    for section in config:
        (event,) = found.Tensors(f"config/{section}")
        (text,) = event.tensor_proto.string_val
        for field, value in fields(plain(config)[section]):
            assert f"| {field} | `{json.dumps(value)}` |" in text.decode().splitlines()
    data = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    session = hparams_metadata.parse_session_start_info_plugin_data(data)
    assert session.group_name == "mine"
    assert session.hparams["optim.lr"].number_value == config.optim.lr
    assert session.hparams["model.depths"].string_value == "[2, 2]"
    assert "data.dir" not in session.hparams


def test_panels_are_samples_of_one_tag_and_a_png(tmp_path):
    rng = np.random.default_rng(0)
    panels = rng.integers(0, 256, (4, 8, 12, 3), np.uint8)
    with contextlib.closing(Summaries(tmp_path, 0)) as summaries:
        path = summaries.images(7, "eval/a_val/frame", panels, panels[0])
    assert path == tmp_path / "images" / "a_val_frame_00000007.png"
    with Image.open(path) as found:
        np.testing.assert_array_equal(np.asarray(found), panels[0])
    (event,) = events(tmp_path).Tensors("eval/a_val/frame")
    width, height, *pictures = event.tensor_proto.string_val
    assert (width, height) == (b"12", b"8")
    for picture, panel in zip(pictures, panels, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture))), panel)


def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
    make_workdir(tmp_path / "a" / "b")
    make_workdir(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--workdir=.*file/run cannot be created"):
        make_workdir(tmp_path / "file" / "run")


@pytest.mark.parametrize("name", ["", "checkpoints", "images", "eval"])
def test_a_folder_that_cannot_be_written_to_is_explained(tmp_path, name, monkeypatch):
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    access = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder and access(path, mode))
    with pytest.raises(InputError, match=f"the folder {folder} cannot be written to"):
        make_workdir(tmp_path)
    if name:
        folder.rmdir()
        folder.touch()
        with pytest.raises(InputError, match=f"{folder} is not a folder"):
            make_workdir(tmp_path)


def test_errors_name_the_file(tmp_path, monkeypatch):
    writer = Summaries(tmp_path, 0)

    def full(*args):
        raise OSError(28, "No space left on device")

    lines = types.SimpleNamespace(name=writer._lines.name, write=full)
    with contextlib.closing(writer), monkeypatch.context() as patch:
        patch.setattr(writer, "_lines", lines)
        with pytest.raises(OSError, match="No space left on device: '.*metrics.jsonl'"):
            writer.scalars(1, {"loss": 1.0})
