"""The command line: what is wrong is said in a line, before anything else happens."""

import pathlib
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
        ([TINY, "--config.train.steps=many"], "--config.train.steps=many: invalid literal"),
        (["--config=configs/swrn.py:tni"], "no variant 'tni', only reds, vimeo, tiny.*'tiny'"),
        (["--config=configs/swnr.py"], "No such file.*configs/swnr.py"),
        ([], "--config is missing"),
        ([TINY, "--workdri=W"], "Unknown command line flag 'workdri'.*workdir"),
        ([TINY, "train.steps=7"], "what is 'train.steps=7'"),
        ([TINY, "--mode=test"], "should be one of"),
        ([TINY, "--mode=eval"], "W holds no run"),
        ([TINY, "--process=1"], "--coordinator, --processes and --process belong together"),
        ([TINY, "--distributed"], "cannot be connected by the scheduler's environment: "),
        ([TINY, "--config.data.dir=nowhere"], "'dead_leaves/small' is not prepared in nowhere"),
    ],
)
def test_a_wrong_command_line_is_explained(flags, message, tmp_path):
    import re

    command = [sys.executable, "-m", "jaxvsr.main", f"--workdir={tmp_path}/W", *flags]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip()
    assert re.search(f"error: .*{message}", last, re.DOTALL), last
    assert "Traceback" not in last
    assert not (tmp_path / "W").exists()


def test_importing_it_loads_nothing_heavy():
    """The processes that read data import the main module again."""
    code = "import sys, jaxvsr.main; print([m for m in ('jax', 'tensorflow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True)
    assert done.stdout.strip() == b"[]"
