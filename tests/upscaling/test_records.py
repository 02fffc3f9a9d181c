"""Records of an upscaling, as a run that is resumed may find them."""

import os

import pytest

from jaxvsr.files import digest
from jaxvsr.upscaling.records import DamagedFile, read_record, verify, write_record


def test_what_is_written_comes_back(tmp_path):
    write_record(tmp_path / "a.json", {"x": [1, None]})
    assert read_record(tmp_path / "a.json") == {"x": [1, None]}
    verify(tmp_path / "a.json", digest(tmp_path / "a.json"))


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"3", b"{}", b"[" * 100_000])
def test_other_content_is_damage(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DamagedFile, match="a.json is damaged"):
        read_record(tmp_path / "a.json")


@pytest.mark.parametrize("read", [read_record, lambda path: verify(path, "0")])
def test_what_is_not_a_file_is_damage(tmp_path, read):
    with pytest.raises(DamagedFile, match="a.json is missing"):
        read(tmp_path / "a.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DamagedFile, match="folder is not a file"):
        read(tmp_path / "folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("read", [read_record, lambda path: verify(path, "0")])
def test_a_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(DamagedFile, match="a.json is not a file"):
        read(tmp_path / "a.json")
