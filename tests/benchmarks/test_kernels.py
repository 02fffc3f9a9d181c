import re

import pytest

from benchmarks import kernels


def test_dry_run_compares_a_kernel_with_its_plain_form(tmp_path):
    kernels.main(["--dry", "--only=IIA-VSR", f"--out={tmp_path}"])
    text = (tmp_path / "kernels.md").read_text()
    errors = re.search(r"\| IIA-VSR +\| (\S+) +\| (\S+) +\|", text).groups()
    assert all(1e-5 < float(error) < 1e-2 for error in errors)


def test_unknown_case(tmp_path, capsys):
    with pytest.raises(SystemExit):
        kernels.main(["--dry", "--only=oops", f"--out={tmp_path}"])
    assert "PSRT" in capsys.readouterr().err
