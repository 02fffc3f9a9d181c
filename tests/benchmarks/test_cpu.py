import contextlib
import itertools
import sys

import jax
import numpy as np
import pytest

from benchmarks import cpu
from benchmarks.parity import GOLDEN
from tests.golden import golden

PEER = """
import pathlib, sys
import numpy as np
work = pathlib.Path(sys.argv[-1])
weights = {"weights/conv.bias": np.ones(3)}
np.savez(work / "official.npz", sr=2 * np.load(work / "lq.npy"), **weights)
print('{"torch": "2.0", "threads": 2, "kept": 0.5}', flush=True)
for number, _ in enumerate(sys.stdin):
    print(number + 0.25, flush=True)
"""


def test_the_official_code_computes_when_asked_to():
    lq = np.ones((1, 2, 4, 4, 3), np.float32)
    with cpu.started([sys.executable, "-c", PEER], lq) as official:
        assert official.facts["kept"] == 0.5
        assert list(official.weights) == ["conv.bias"]
        np.testing.assert_array_equal(official.sr, 2 * lq)
        assert [official.seconds(), official.seconds()] == [0.25, 1.25]


def test_an_official_process_that_fails_is_named():
    with (
        pytest.raises(RuntimeError, match="official code failed: .*exit"),
        cpu.started([sys.executable, "-c", "exit(3)"], np.zeros((1, 1, 4, 4, 3), np.float32)),
    ):
        pass


def test_calls_alternate(monkeypatch):
    monkeypatch.setattr(cpu, "PAUSE", 0)
    clock = itertools.count()
    calls = {name: lambda: float(next(clock)) for name in ("theirs", "ours")}
    assert cpu.alternately(calls, 3) == {"theirs": [0, 2, 4], "ours": [1, 3, 5]}


def test_page_has_ratio_and_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cpu, "PAUSE", 0)
    _, tensors, _ = golden.load(GOLDEN / "basicvsr_tiny")

    @contextlib.contextmanager
    def started(command, lq):
        assert command[-2:] == ["basicvsr", '{"num_feat": 16, "num_block": 2}']
        # With zero weights BasicVSR upsamples bilinearly; this output is a tenth higher.
        sr = 1.1 * jax.image.resize(lq, (1, 2, 256, 256, 3), "bilinear")
        zeros = {name: np.zeros_like(value) for name, value in tensors.items()}
        facts = {"torch": "2.0", "threads": 2, "kept": 1.0}
        yield cpu.Official(zeros, np.asarray(sr), facts, lambda: 2000.0)

    monkeypatch.setattr(cpu, "started", started)
    options = ["--official=.", "--networks=basicvsr", "--dry", "--frames=2", "--rounds=2"]
    cpu.main([*options, f"--out={tmp_path}"])
    page = (tmp_path / "cpu.md").read_text()
    assert page in capsys.readouterr().out
    (line,) = (line for line in page.splitlines() if line.startswith("| `basicvsr`"))
    _, _, theirs, ours, ratio, *_, error, _ = (cell.strip() for cell in line.split("|"))
    assert theirs == "1,000,000" and error == "9.1e-02"
    assert 0 < float(ours.replace(",", "")) < 1e6 and float(ratio) > 1
