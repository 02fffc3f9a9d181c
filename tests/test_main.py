"""The command line: what is wrong is said in a line, before anything else happens."""

import pathlib
import re
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).parents[1]
TINY = "--config=configs/swrn.py:tiny"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([TINY, "--config.train.step=7"], "no field --config.train.step; .* --config.train.steps"),
        ([TINY, "--config.trian.seed=7"], "no field --config.trian.seed; .* --config.train.seed"),
        ([TINY, "--config.train.steps=many"], "--config.train.steps=many must be of the type of"),
        (["--config=configs/swrn.py:tni"], "no variant 'tni', only reds, vimeo, tiny.*'tiny'"),
        (["--config=configs/swnr.py"], "no config file 'configs/swnr.py'; .*configs/swrn.py"),
        ([], "--config is missing"),
        ([TINY, "--workdri=W"], "Unknown command line flag 'workdri'.*workdir"),
        ([TINY, "train.steps=7"], "unexpected argument 'train.steps=7'"),
        ([TINY, "--mode=test"], "should be one of"),
        ([TINY, "--mode=eval"], "W holds no run"),
        ([TINY, "--process=1"], "--coordinator, --processes and --process must be given together"),
        ([TINY, "--distributed"], "cannot be connected by the scheduler's environment: "),
        ([TINY, "--config.data.dir=nowhere"], "'dead_leaves/small' is not prepared in nowhere"),
    ],
)
def test_a_wrong_command_line_is_explained(flags, message, tmp_path):
    command = [sys.executable, "-m", "jaxvsr.main", f"--workdir={tmp_path}/W", *flags]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip()
    assert re.search(f"error: .*{message}", last, re.DOTALL), last
    assert "Traceback" not in last
    assert not (tmp_path / "W").exists()
