"""Logs of a run, and how they go on after it was killed."""

import contextlib
import json
import os
import types

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jaxvsr.errors import InputError
from jaxvsr.training.summaries import Summaries, make_workdir


def write(workdir, step, values):
    with contextlib.closing(Summaries(workdir, step)) as summaries:
        for done, value in values.items():
            summaries.scalars(done, {"loss": value})


def lines(workdir):
    found = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in found}


def test_numbers_are_kept_to_the_last_digit_and_sent_to_tensorboard(tmp_path):
    values = {1: 1 / 3, 2: np.float32(0.1)}
    write(tmp_path, None, values)
    assert lines(tmp_path) == {1: 1 / 3, 2: float(np.float32(0.1))}
    events = EventAccumulator(str(tmp_path), {"tensors": 0}).Reload()
    assert [event.step for event in events.Tensors("loss")] == [1, 2]


def test_a_number_that_is_not_finite_is_null(tmp_path):
    write(tmp_path, None, {1: np.inf, 2: np.float32(np.nan)})
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
        write(tmp_path, None, {1: 1.0})
    (tmp_path / "metrics.jsonl").rmdir()
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(InputError, match=r"metrics\.jsonl is a pipe"):
        write(tmp_path, None, {1: 1.0})


def test_scoring_appends(tmp_path):
    write(tmp_path, 0, {1: 1.0, 2: 2.0})
    write(tmp_path, None, {1: 10.0})
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 3


def test_pictures_are_png_files_too(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    with contextlib.closing(Summaries(tmp_path, None)) as summaries:
        path = summaries.image(7, "eval", picture)
    assert path == tmp_path / "images" / "eval_00000007.png"
    with Image.open(path) as found:
        np.testing.assert_array_equal(np.asarray(found), picture)


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
