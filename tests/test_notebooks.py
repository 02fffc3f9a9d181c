"""The notebooks: without outputs, ready for Colab, and executed from the first cell to the last."""

import contextlib
import json
import os
import pathlib
import signal
import sys
import tomllib

import nbclient
import nbformat
import nbstripout
import pytest

REPOSITORY = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
URL = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["urls"]["Repository"]

SMALL = (
    "--config.data.dataset=dead_leaves/test --config.data.frames=3 --config.data.crop=32 "
    "--config.data.workers=0 --config.eval.dataset=dead_leaves/test --config.eval.split=val "
    "--config.train.log_every=1"
)
# What each notebook is executed with, in place of its settings.
SETTINGS = {
    "train_and_upscale": {"STEPS": 4, "FIELDS": SMALL},
    "official_weights": {
        "URL": "",
        "SOURCE": "stand_in.safetensors",
        "CONFIG": "configs/basicvsr.py:tiny",
        "FIELDS": SMALL,
    },
}
# What has to be among the outputs of some cells.
OUTPUTS = {
    "train_and_upscale": {
        "devices": "jax 0.",
        "tensorboard": "logdir='{run}'",
        "train": "step 4/4",
        "score": "| miavsr",
        "pictures": "image/png",
        "profile": "image/png",
        "masks": "image/png",
        "ranks": "| miavsr",
        "ranked": "image/png",
        "film": "<video controls loop",
        "upscale": "written: ",
        "result": "<video controls loop",
    },
    "official_weights": {
        "devices": "jax 0.",
        "stand-in": "instead of official weights",
        "convert": "in all: 38 tensors",
        "score": "| basicvsr",
        "picture": "image/png",
        "upscale": "written: ",
        "result": "<video controls loop",
    },
}

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def cell(notebook, name):
    return next(cell for cell in notebook.cells if cell.id == name)


@every_notebook
def test_nothing_of_a_run_is_in_git(path):
    notebook = read(path)
    nbformat.validate(notebook)
    for code in (cell for cell in notebook.cells if cell.cell_type == "code"):
        assert code.outputs == [] and code.execution_count is None
    stripped = nbstripout.strip_output(
        read(path), keep_output=False, keep_count=False, keep_id=True
    )
    assert stripped == notebook


@every_notebook
def test_it_is_found_in_colab(path):
    place = f"{URL.removeprefix('https://github.com')}/blob/main/notebooks/{path.name}"
    link = f"https://colab.research.google.com/github{place}"
    title = read(path).cells[0].source
    assert title.startswith("# ") and f"]({link})" in title
    assert link in (REPOSITORY / "README.md").read_text()
    assert f"git clone --quiet --depth=1 {URL}\n" in cell(read(path), "install").source


def test_all_install_the_same_way():
    assert {path.stem for path in NOTEBOOKS} == SETTINGS.keys() == OUTPUTS.keys()
    assert len({cell(read(path), "install").source for path in NOTEBOOKS}) == 1
    assert len({cell(read(path), "devices").source for path in NOTEBOOKS}) == 1


@pytest.mark.parametrize(
    ("tpu", "driver", "jax"),
    [
        ("1", "", "jax[tpu]"),
        ("", "580.82.07", "jax[cuda13]"),
        ("", "550.54.15", "jax[cuda12]"),
        ("", "", "jax"),
    ],
)
def test_colab_gets_the_jax_of_its_device(tpu, driver, jax, tmp_path, monkeypatch):
    """By programs that write down how they were called."""
    programs = {"git": "mkdir -p jaxvsr", "pip": ""} | (
        {"nvidia-smi": f"echo {driver}"} if driver else {}
    )
    for name, does in programs.items():
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'#!/bin/sh\necho "$(basename $0)" "$@" >> {tmp_path}/called\n{does}\n')
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("COLAB_TPU_1VM", tpu)
    colab = 'import sys\nsys.modules["google.colab"] = sys'
    ends = "import os\nprint(os.getcwd())"
    codes = [colab, cell(read(NOTEBOOKS[0]), "install").source, ends]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])
    execute(notebook, tmp_path, tmp_path / "home", monkeypatch)
    called = (tmp_path / "called").read_text().splitlines()
    assert f"git clone --quiet --depth=1 {URL}" in called
    assert called[-1] == f"pip install --quiet --editable .[video] {jax}"
    assert notebook.cells[-1].outputs[0].text.strip() == str(tmp_path / "jaxvsr")


def execute(notebook, folder, home, monkeypatch):
    """Executes a notebook in a folder; what it leaves behind elsewhere is in `home`."""
    home.mkdir()
    for name in ("HOME", "TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "TFDS_DATA_DIR"):
        monkeypatch.setenv(name, str(home))
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()


def outputs(cell):
    """All that a cell has shown, as text."""
    shown = ""
    for output in cell.outputs:
        shown += output.get("text", "")
        shown += "".join(f"{kind}\n{value}" for kind, value in output.get("data", {}).items())
    return shown


@pytest.mark.slow
@every_notebook
def test_it_runs_from_the_first_cell_to_the_last(path, tmp_path, monkeypatch):
    notebook, home, run = read(path), tmp_path / "home", str(tmp_path / "run")
    settings = SETTINGS[path.stem] | {"DATA": "test", "WORKDIR": run}
    if "SOURCE" in settings:
        settings["SOURCE"] = str(tmp_path / settings["SOURCE"])
    known = cell(notebook, "settings").source
    assert all(f"{name} = " in known for name in settings)
    cell(notebook, "settings").source += "".join(
        f"\n{name} = {value!r}" for name, value in settings.items()
    )
    for code in notebook.cells:
        if any(line.startswith("!") for line in code.source.splitlines()):
            code.source += "\nassert _exit_code == 0"  # which IPython itself lets pass
        if "\n%tensorboard" in code.source:
            code.source += "\nfrom tensorboard import manager\nprint(manager.get_all())"
    # The commands are those of this Python.
    bin = pathlib.Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    try:
        execute(notebook, path.parent, home, monkeypatch)
    finally:
        nbformat.write(notebook, tmp_path / path.name)  # to be looked at
        for info in home.glob(".tensorboard-info/*.info"):  # it mostly ends with the kernel
            with contextlib.suppress(ProcessLookupError):
                os.kill(json.loads(info.read_text())["pid"], signal.SIGTERM)
    for name, part in OUTPUTS[path.stem].items():
        assert part.format(run=run) in outputs(cell(notebook, name)), name
