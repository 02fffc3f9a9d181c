"""Every command of an installed wheel, from an empty folder."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import numpy as np
import pytest
from PIL import Image

import jaxvsr

REPOSITORY = pathlib.Path(__file__).parents[1]
SOURCES = ("jaxvsr", "configs", "tfds_builders")
FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
SMALL = [
    "--config.data.dir=data",
    "--config.data.dataset=dead_leaves/test",
    "--config.data.frames=3",
    "--config.data.crop=32",
    "--config.data.batch=2",
    "--config.eval.dataset=dead_leaves/test",
    "--config.train.steps=2",
    "--config.train.log_every=1",
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of an environment with the wheel; its dependencies are those of this Python."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in SOURCES:
        shutil.copytree(
            REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in FILES:
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "--no-deps", f"--wheel-dir={folder}", source], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    subprocess.run([folder / "venv/bin/pip", "install", "--no-deps", wheel], check=True)
    (site,) = (folder / "venv/lib").glob("python3*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return folder / "venv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("empty")


def run(program, *words, cwd):
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([program, *words], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_but_the_package_is_installed(installed, folder):
    code = "import jaxvsr; print(jaxvsr.__file__, jaxvsr.__version__)"
    file, version = run(installed / "bin/python", "-c", code, cwd=folder).split()
    assert pathlib.Path(file).is_relative_to(installed) and version == jaxvsr.__version__
    package = pathlib.Path(file).parent
    beside = {path.name for path in package.parent.iterdir()}
    assert beside.isdisjoint({"configs", "tfds_builders", "tests", "benchmarks"})
    assert (package / "weights" / "spynet.safetensors").exists()
    assert (package / "py.typed").exists() and not list(package.rglob("*_test.py"))


def test_every_command_runs(installed, folder):
    program = installed / "bin/jaxvsr"
    version = f"jaxvsr {jaxvsr.__version__}"
    assert run(program, "--version", cwd=folder).strip() == version
    said = run(program, "data", "dead_leaves/test", "--data_dir=data", cwd=folder)
    assert said.startswith(f"{version} data: ") and "prepared: data/dead_leaves/test" in said
    said = run(program, "train", "--config=swrn:tiny", "--workdir=run", *SMALL, cwd=folder)
    assert "step 2/2" in said and "| swrn" in said
    config = ["--config", "configs/swrn.py:tiny"]
    said = run(program, "eval", *config, "--workdir=run", *SMALL, cwd=folder)
    assert "| swrn" in said and "scores: run/eval/" in said
    frames = folder / "frames"
    frames.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(frames / f"{i}.png")
    run(program, "upscale", "frames", "preset", cwd=folder)
    assert "swrn-x2" in run(program, "upscale", "--list", cwd=folder)
    run(program, "upscale", "--sample", "sample.mp4", "--end=0:00.04", cwd=folder)
    run(program, "upscale", "frames", "trained", *config, "--checkpoint=run", cwd=folder)
    for name in ("preset", "trained"):
        pictures = sorted((folder / name).glob("*.png"))
        assert len(pictures) == 3
        with Image.open(pictures[0]) as picture:
            assert picture.size == (128, 96)
    said = run(program, "profile", *config, "--size=16x24", "--frames=2", "--rounds=1", cwd=folder)
    assert "| parameters " in said and "43,472" in said


def test_weights_are_converted_with_a_config_of_ones_own(installed, folder):
    (folder / "own.py").write_text(
        "from configs import swrn\n"
        "def get_config():\n"
        "    config = swrn.get_config('tiny')\n"
        "    config.model.update(dim=4, num_blocks=1)\n"
        "    return config\n"
    )
    code = (
        "import jax, numpy as np, jaxvsr\n"
        "from jaxvsr.weights import TF\n"
        "from jaxvsr.weights.rules import places\n"
        "model = jaxvsr.models.create('swrn', dim=4, num_blocks=1)\n"
        "shapes = jax.eval_shape(model.init, jax.random.key(0), jaxvsr.models.example(model))\n"
        "np.savez('w.npz', **{TF['swrn'].official_name(place): np.zeros(leaf.shape, np.float32)\n"
        "                     for place, leaf in places(shapes).items()})\n"
    )
    run(installed / "bin/python", "-c", code, cwd=folder)
    words = ["convert", "--config=own.py", "--source=w.npz", "--out=converted"]
    assert "in all: " in run(installed / "bin/jaxvsr", *words, cwd=folder)
    assert (folder / "converted" / "config.json").exists()
