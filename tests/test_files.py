import errno
import os

import pytest

from jaxvsr.files import write_text


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "config.json"
    write_text(path, "old")
    write_text(path, "neu é")
    assert path.read_text(encoding="utf-8") == "neu é"
    assert list(tmp_path.iterdir()) == [path]
    plain = tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_failure_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    write_text(path, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
