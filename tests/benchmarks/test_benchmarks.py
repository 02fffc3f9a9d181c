"""Each benchmark runs with its smallest settings and prints its table."""

import itertools
import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import videos
from PIL import Image

from benchmarks import (
    alignment,
    loader,
    masks,
    parity,
    phone_loss,
    picture,
    preset,
    sample,
    space,
    ssim,
    topologies,
    upscale,
)
from jaxvsr import presets

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def cells(text, first):
    """The cells of the Markdown rows whose first cell is `first`."""
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()]
    return [row[1:] for row in rows if row[:1] == [first]]


def test_alignment_is_alive_only_if_scaled(capsys):
    alignment.main(["--starts=2", "--size=32"])
    text = capsys.readouterr().out
    assert cells(text, "sums, of 0..255 (official code)")[0][1] == "0 of 2"
    assert cells(text, "means, of 0..1 (`scaled`)")[0][1] == "2 of 2"


def test_loader_reads_the_same_pixels_and_prints_both(capsys):
    loader.main(
        [
            *("--length=4", "--size", "64", "96", "--frames=2", "--crop=32"),
            *("--samples=3", "--rounds=1"),
        ]
    )
    text = capsys.readouterr().out
    for reader in ("PNG files", "data set"):
        ((*times, _),) = cells(text, reader)
        assert all(float(value) > 0 for value in times)


def test_loader_takes_a_folder_of_frames(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    for i in range(3):
        Image.fromarray(pixels + np.uint8(i)).save(tmp_path / f"{i}.png")
    clip = loader.content(str(tmp_path), 2, (32, 16))
    assert len(clip) == 2 and clip[1]["lq"].shape == (8, 4, 3)
    np.testing.assert_array_equal(clip[1]["gt"][:20], pixels[:, :16] + np.uint8(1))


def test_masks_gated_equals_dense(capsys, monkeypatch):
    for name, value in {"FRACTIONS": (0.5,), "DIM": 24, "HEADS": 2}.items():
        monkeypatch.setattr(masks, name, value)
    masks.main(["--size", "16", "24", "--rounds=1"])
    rows = cells(capsys.readouterr().out, "blobs")
    assert len(rows) == 1 and float(rows[0][-1]) < 1e-5


def test_mobile_log_draws_every_family(tmp_path):
    mobile_log = pytest.importorskip("benchmarks.mobile_log", reason="needs jaxvsr[plots]")
    mobile_log.main([f"--out={tmp_path / 'log.png'}"])
    with Image.open(tmp_path / "log.png") as drawn:
        assert np.asarray(drawn.convert("RGB")).std() > 10
    best = mobile_log.front(mobile_log.read(ROOT / "docs" / "mobile_log.csv"))
    assert all(a.psnr < b.psnr and a.gflops < b.gflops for a, b in itertools.pairwise(best))


def test_parity_measures_a_case_and_writes_it(tmp_path, capsys):
    parity.main(["swrn_tiny", f"--out={tmp_path}"])
    (row,) = cells(capsys.readouterr().out, "SWRN")
    (error,) = json.loads((tmp_path / "parity.json").read_text())["errors"]
    assert 0 < error["error"] < 1e-6 and row[-1] == f"{error['error']:.1e}"
    assert row[-1] in (tmp_path / "parity.md").read_text()


def test_parity_knows_every_case_of_a_whole_network():
    whole = {
        path.parent.name
        for path in parity.GOLDEN.glob("*/manifest.json")
        if "_tiny" in path.parent.name
    }
    assert whole == {case for case in parity.CASES if "_real" not in case}


def test_picture_has_a_column_per_method(tmp_path, capsys):
    source = videos.write(tmp_path / "in.mp4", frames=videos.blocks(4))
    out = tmp_path / "out.png"
    picture.main([str(source), "--frame=2", "--context=1", "--crops", "0,0", f"--out={out}"])
    with Image.open(out) as drawn:
        assert drawn.width == 4 * (picture.WIDTH + picture.GAP) - picture.GAP
    assert "PSNR on Y: bicubic" in capsys.readouterr().out


def test_sample_is_small_and_names_its_authors(tmp_path, monkeypatch):
    source = videos.write(tmp_path / "in.mp4", frames=videos.blocks(4))
    monkeypatch.setattr(sample, "FIRST", 1)
    monkeypatch.setattr(sample, "LAST", 3)
    sample.main([str(source), f"--out={tmp_path / 'out.mp4'}"])
    assert videos.read(tmp_path / "out.mp4").frames.shape == (3, 12, 16, 3)
    assert b"Blender Foundation" in (tmp_path / "out.mp4").read_bytes()


def test_preset_scores_frames(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(preset, "milliseconds", lambda name, folder: 7.25)
    weights = presets.FOLDER / "swrn.safetensors"
    for path in (weights, weights.with_suffix(".json")):
        shutil.copy(path, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    for i in range(3):
        Image.fromarray(pixels).save(tmp_path / f"{i:03d}.png")
    preset.main(["swrn", "--frames", str(tmp_path), f"--folder={tmp_path}", "--record"])
    rows = cells(capsys.readouterr().out, tmp_path.stem)
    assert [row[2] for row in rows] == ["bicubic", "swrn"]
    _, _, config = presets.load("swrn", tmp_path)
    scores = {"bicubic": float(rows[0][3]), "preset": float(rows[1][3])}
    assert config["measured"]["psnr_y"] == {tmp_path.stem: scores}
    assert config["measured"]["milliseconds"] == 7.2 and config["model"]["name"] == "swrn"


def test_space_counts_at_least_the_output():
    assert space.memory("swrn", (16, 16), frames=1, devices=1) > 4 * 64 * 64 * 3


@pytest.mark.slow
def test_space_shares_memory_among_devices():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.space", "swrn", "--frames=2", "--size", "32", "32"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    ((one, two, four, large),) = cells(done.stdout, "swrn")
    assert one.endswith("(1.00)") and all(cell.endswith(")") for cell in (two, four, large))


def test_ssim_gives_the_plain_values(capsys):
    pytest.importorskip("cv2")
    ssim.main(["--frames=2", "--size", "48", "64", "--rounds=1", "--lengths", "2"])
    rows = cells(capsys.readouterr().out, "RGB")
    assert float(rows[0][-1]) < 1e-9


def test_topologies_prints_the_files_that_are_there(tmp_path, capsys):
    fit = {
        "title": "swrn, inference on a clip",
        "compile_seconds": 120,
        "refusal": "",
        "fits": True,
        "total_bytes": 2**31,
        "traffic_bytes": 5e9,
        "flops": 3e12,
        "kernels": 7000,
        "memory_bound_ms": 1.0,
        "compute_bound_ms": 2.0,
        "kernel_kinds": {"copy": {"number": 7000, "bytes": 5e9}},
        "collectives": {"all-reduce": {"number": 3, "bytes": 2**20}},
    }
    (tmp_path / "h100_swrn.json").write_text(json.dumps(fit))
    refused = fit | {"fits": False, "refusal": "too large", "available_bytes": 2**34}
    refused["title"] = "configs/vrt.py, a training step on a clip"
    (tmp_path / "v5e_vrt.json").write_text(json.dumps(refused))
    topologies.main(["none", f"--out={tmp_path}"])
    said = capsys.readouterr().out
    assert re.findall("^## (.*)", said, re.MULTILINE) == ["h100", "v5e"]
    (row,), (over,) = cells(said, "swrn"), cells(said, "vrt.py, a training step on a clip")
    moved = "copy 100%", "3 all-reduce, 1.0 MiB"
    assert row == ["yes", "2.00", "5.0", "3", "7,000", "1.0", "2.0", *moved, "120"]
    assert over == ["no", "over 16", "", "3", "", "", "2.0", "", "", "120"]


def test_upscale_prints_the_peak_memory(tmp_path, capsys):
    pytest.importorskip("av")
    source = tmp_path / "in.mp4"
    upscale.write(source, length=3, height=32, width=48)
    upscale.upscale(source)
    assert int(capsys.readouterr().out.splitlines()[-1]) > 100  # MiB, of a process with JAX
    assert videos.read(tmp_path / "out.mp4").frames.shape == (3, 128, 192, 3)


def test_phones_compares_files_of_a_network_and_resumes(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="needs jaxvsr[export]")
    log = tmp_path / "phones.jsonl"
    arguments = ["SWRN", "--size=8x16", f"--log={log}"]
    twice = f"from benchmarks import phones; [phones.main({arguments}) for _ in range(2)]"
    done = subprocess.run(
        [sys.executable, "-c", twice],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    row, times, *again = cells(done.stdout, "SWRN")
    assert again == [row, times] and done.stdout.count("SWRN {") == 1
    assert len(log.read_text().splitlines()) == 1
    assert row[0] == "43,472" and row[6] == "1.00"
    fp32, fp16, int8 = (int(number.replace(",", "")) for number in row[2:5])
    assert fp32 > 1.5 * fp16 > 1.5 * int8 and all(float(ratio) > 0 for ratio in times)


@pytest.mark.slow
def test_phone_loss_trains_and_compares_files(tmp_path, capsys):
    pytest.importorskip("ai_edge_litert", reason="needs jaxvsr[export]")
    rng = np.random.default_rng(0)
    for folder in ("gt", "frames"):
        (tmp_path / folder).mkdir()
        for i in range(4):
            pixels = rng.integers(0, 256, (100, 104, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    folders = [f"--{folder}={tmp_path / folder}" for folder in ("gt", "frames")]
    phone_loss.main(["ABPN_0", "--train=1", *folders, "--quant=int8", "--prune_channels=0.5"])
    rows = cells(capsys.readouterr().out, "ABPN_0")
    assert [row[0] for row in rows] == [
        "fp32",
        "int8",
        "fp32 --prune_channels=0.5",
        "int8 --prune_channels=0.5",
    ]
    sizes = [float(row[2]) for row in rows]
    assert 1 == sizes[0] > sizes[2] > sizes[1] > sizes[3]
    assert rows[0][-1] == "0.000" and all(np.isfinite(float(row[-1])) for row in rows)


@pytest.mark.slow
def test_soak_finds_the_results_of_killed_runs_equal(tmp_path):
    out = tmp_path / "soak.md"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--kills=1", f"--out={out}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    ((runs, kills, differing, lost, failed),) = cells(out.read_text(), "all")
    assert runs == "1" and int(kills) >= 0 and (differing, lost, failed) == ("0", "0", "0")
