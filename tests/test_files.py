import errno
import json
import os

import pytest

from jaxvsr.errors import InputError
from jaxvsr.files import json_text, read_json, write_text


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


def test_json_has_no_nan_and_no_infinity():
    value = {"a": [1.5, float("nan"), (float("inf"),)], "b": {"c": -float("inf")}, "d": "NaN"}
    assert json.loads(json_text(value)) == {"a": [1.5, None, [None]], "b": {"c": None}, "d": "NaN"}
    assert json_text({"a": 1}, indent=2) == '{\n  "a": 1\n}'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"a\.json is damaged: Expecting value"),
        (b"{", r"a\.json is damaged: Expecting property name"),
        (b"\xff\xfe\x00", r"a\.json is damaged: 'utf-?.* codec can't decode"),
        (b"[1]", r"a\.json is damaged: it must hold a JSON object"),
        (b"[" * 100_000, r"a\.json is damaged"),
        (None, r"a\.json cannot be read: No such file"),
    ],
)
def test_damaged_json_is_named_in_a_line(tmp_path, data, message):
    if data is not None:
        (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(InputError, match=message) as raised:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(raised.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"a\.json is a pipe"):
        read_json(tmp_path / "a.json")
