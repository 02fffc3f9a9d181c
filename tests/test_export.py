"""The command "export"."""

import json
import re
import subprocess
import sys

import pytest

from jaxvsr import cli
from jaxvsr import export as program


def run(*words):
    return cli.run_command(program.command("export"), list(map(str, words)))


def test_as_a_program(tmp_path):
    pytest.importorskip("litert_converter")
    command = [sys.executable, "-m", "jaxvsr.export", "--preset=swrn", "--size=32x48"]
    flags = ["--prune_channels=0.5", f"--out={tmp_path}"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (dense,) = re.findall(r"^\| fp32 +\| +([0-9,]+) ", done.stdout, re.MULTILINE)
    pruned = (tmp_path / "swrn_32x48_fp32.tflite").stat().st_size
    assert 100_000 < pruned < 0.4 * int(dense.replace(",", ""))
    described = json.loads((tmp_path / "swrn_32x48_fp32.json").read_text())
    assert described["measured"]["parity_sr"] < 1e-6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size=180"], "--size must be HEIGHTxWIDTH, for example 180x320; got '180'"),
        (["--size=0x320"], "--size must be HEIGHTxWIDTH, .*got '0x320'"),
        (["--size=8x8", "--preset=large"], "no preset 'large'"),
        (["--size=8x8", "--config=basicvsr"], "BasicVSR needs the whole clip for each frame"),
        (["--size=8x8", "--config=swrn"], "swrn needs --workdir"),
        (["--size=8x8", "--checkpoint=W"], "--config is missing, and --workdir=W holds no run"),
        (["--size=8x8", "--quant=int8"], "--quant=int8 needs --calibration"),
        (["--size=8x8", "--quant=int4"], "--quant=int4.*fp32"),
        (["--size=8x8", "--calibration=none"], "--calibration=none is not a folder"),
        (["--size=8x8", "--qat=5"], "--qat trains on frames: add --calibration"),
        (["--size=8x8", "--qat=5", "--calibration=a"], "--qat needs --quant=int8, --prune, --clu"),
        (["--size=8x8", "--prune=1"], "--prune=1.0 must be a fraction"),
        (["--size=8x8", "--prune_channels=1"], "--prune_channels=1.0 must be a fraction"),
        (["--size=8x8", "--clusters=1"], "--clusters=1 must be 0 .off. or at least 2"),
        (["--size=8x8", "--frames=3"], "--frames is for --format=stablehlo"),
        (["--size=8x8", "--format=stablehlo", "--quant=fp16"], "--quant is for --format=tflite"),
    ],
)
def test_wrong_flags_are_explained(tmp_path, capsys, flags, message):
    pytest.importorskip("litert_converter")
    assert run(f"--out={tmp_path}", *flags) == 1
    (line,) = re.findall("^error: .*", capsys.readouterr().err, re.MULTILINE)
    assert re.search(message, line)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path, capsys):
    pytest.importorskip("litert_converter")
    (tmp_path / "file").touch()
    assert run("--size=8x8", f"--out={tmp_path / 'file' / 'folder'}") == 1
    assert re.search("error: --out=.* cannot be written", capsys.readouterr().err)
