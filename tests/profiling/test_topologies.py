"""Programs that GPUs and TPUs would run compile for them, fit, and move no more than before.

Frames are small and clips short, since what takes time is the programs' structure; the networks are
the official ones. `python -m benchmarks.topologies` compiles the official sizes.
"""

import importlib.util
import json
import math
import pathlib

import jax
import pytest

from jaxvsr import cli, flops, profile
from jaxvsr.profiling import gpus

REPOSITORY = pathlib.Path(__file__).parents[2]
# Bytes that each network moves for 6 frames of 64x64 in bfloat16, with libtpu 0.0.42 and JAX 0.11.2
# for a GPU. A change that lowers one on purpose lowers it here.
TRAFFIC = json.loads((pathlib.Path(__file__).parent / "traffic.json").read_text())
CONFIGS = [
    *("swrn.py", "mobile.py:MobileRRN", "mobile.py:FANI"),
    *("basicvsr.py", "iconvsr.py", "basicvsrpp.py"),
    *("psrt.py", "iiavsr.py", "miavsr.py", "rvrt.py", "rvrt_light.py", "vrt.py"),
]
on_tpu = pytest.mark.skipif(
    not importlib.util.find_spec("libtpu"), reason="libtpu is not installed: jaxvsr[tpu] has it"
)
on_gpu = pytest.mark.skipif(
    not importlib.util.find_spec("jax_cuda13_plugin"),
    reason="JAX's CUDA libraries are not installed: jaxvsr[cuda-compile] has them",
)


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def compiled(words, folder):
    path = folder / "fit.json"
    words = [*words, f"--json={path}"]
    with jax.default_matmul_precision("default"):  # as the command has it
        assert cli.run_command(profile.command("profile"), words) == 0
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(
    "topology", [pytest.param("v5e:1x1", marks=on_tpu), pytest.param("h100", marks=on_gpu)]
)
def test_every_network_fits_and_its_traffic_does_not_grow(topology, config, tmp_path):
    words = [f"--topology={topology}", "--size=64x64", "--frames=6", "--dtype=bfloat16"]
    found = compiled([f"--config=configs/{config}", *words], tmp_path)
    assert found["fits"] and found["collectives"] == {}
    assert found["traffic_bytes"] <= 1.1 * TRAFFIC[topology].get(config, math.inf)


@pytest.mark.slow
@on_tpu
def test_the_official_training_of_mia_vsr_fits_eight_chips(tmp_path):
    words = ["--config=configs/miavsr.py", "--topology=v5e:2x4", "--train"]
    found = compiled([*words, "--config.train.accumulate=3"], tmp_path)
    assert "24 clips of 16 frames of 64x64, bfloat16" in found["title"]
    assert list(found["collectives"]) == ["all-reduce"]  # of gradients: no frame moves


@on_gpu
def test_training_compiles_for_a_gpu(tmp_path, capsys):
    words = ["--topology=h100", "--train", "--batch=2", "--size=16x16", "--frames=2"]
    small = ["--config.model.dim=4", "--config.model.num_blocks=1"]
    found = compiled(["--config=configs/swrn.py", *small, *words], tmp_path)
    assert found["fits"] and found["kernels"] > 10 and found["temporaries_bytes"] > 0
    assert found["compute_bound_ms"] == pytest.approx(1e3 * found["flops"] / 989e12)
    assert found["memory_bound_ms"] == pytest.approx(1e3 * found["traffic_bytes"] / 3352e9)
    assert sum(kind["bytes"] for kind in found["kernel_kinds"].values()) == found["traffic_bytes"]
    assert "| total" in capsys.readouterr().out


@pytest.mark.parametrize("name", gpus.GPUS)
def test_every_gpu_has_a_peak_and_a_description(name):
    gpu = gpus.GPUS[name]
    assert flops.data_sheet(gpu.kind)
    assert f"memory_bandwidth: {gpu.bandwidth:.0f}\n" in gpu.description


@on_gpu
@pytest.mark.parametrize("name", gpus.GPUS)
def test_xla_accepts_every_gpu(name):
    (device,) = gpus.devices(name)
    assert device.device_kind == gpus.GPUS[name].kind
