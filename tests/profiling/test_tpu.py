"""Programs that TPUs would run compile for them, and fit, on a machine that has none.

Frames are small and clips short, since what takes time is the programs' structure; the networks are
the published ones. `python -m benchmarks.tpu` compiles the published sizes.
"""

import importlib.util
import json
import pathlib

import pytest

from jaxvsr import cli, profile

REPOSITORY = pathlib.Path(__file__).parents[2]
MOBILE = ("MobileRRN", "FANI")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not importlib.util.find_spec("libtpu"), reason="libtpu is not installed: jaxvsr[tpu] has it"
    ),
]


def compiled(words, folder):
    path = folder / "fit.json"
    words = [*words, f"--json={path}"]
    assert cli.run_command(profile.command("profile"), words) == 0
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    "config",
    [
        *("swrn.py", *(f"mobile.py:{name}" for name in MOBILE)),
        *("basicvsr.py", "iconvsr.py", "basicvsrpp.py"),
        *("psrt.py", "iiavsr.py", "miavsr.py", "rvrt.py", "rvrt_light.py", "vrt.py"),
    ],
)
def test_every_network_restores_a_clip_on_one_chip(config, tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    words = ["--topology=v5e:1x1", "--size=64x64", "--frames=6", "--dtype=bfloat16"]
    found = compiled([f"--config=configs/{config}", *words], tmp_path)
    assert found["traffic"]["collectives"] == {}


def test_the_published_training_of_mia_vsr_fits_eight_chips(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    words = ["--config=configs/miavsr.py", "--topology=v5e:2x4", "--train"]
    found = compiled([*words, "--config.train.accumulate=3"], tmp_path)
    assert "24 clips of 16 frames of 64x64, bfloat16" in found["title"]
    assert list(found["traffic"]["collectives"]) == ["all-reduce"]  # of gradients: no frame moves
