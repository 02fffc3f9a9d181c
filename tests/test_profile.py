"""What the profiler says, against counts by hand, and what it says of wrong command lines."""

import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import reference
from PIL import Image

from jaxvsr import flops, measure, models, tables
from jaxvsr.profile import main

REPOSITORY = pathlib.Path(__file__).parents[1]
SWRN = "--config=configs/swrn.py"
SMALL = ["--size=16x24", "--frames=3", "--rounds=1"]
MIA = "configs/miavsr.py:tiny"
HEIGHT, WIDTH = 16, 24


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@functools.cache
def swrn():
    model = models.create("swrn", dim=4, num_blocks=1)
    lq = np.zeros((2, 3, HEIGHT, WIDTH, 3), np.float32)
    return measure.profile([measure.Subject("swrn", model, lq)], rounds=2)[0]


def conv(c_in, c_out, side=3):
    """Parameters and FLOPs a frame."""
    return side**2 * c_in * c_out + c_out, 2 * side**2 * c_in * c_out * HEIGHT * WIDTH


def test_layers_are_as_counted_by_hand():
    found = {layer.name: (layer.parameters, layer.flops) for layer in swrn().layers}
    resized = 2 * (4 * HEIGHT) * HEIGHT * WIDTH * 3 + 2 * (4 * WIDTH) * WIDTH * (4 * HEIGHT) * 3
    branches = {
        f"cell/{name}_{side}{end}": conv(c_in, 4)
        for side in ("forward", "backward")
        for name, end, c_in in (("conv_first", "", 10), ("trunk", "_0", 4), ("conv_hidden", "", 4))
    }
    assert found == branches | {
        "cell/conv_fusion": conv(8, 4),
        "cell/trunk_fusion_0": conv(4, 4),
        "cell/conv_last": conv(4, 48),
        "": (0, resized),  # the bilinear enlargement
    }


def test_layers_are_together_the_whole():
    profile = swrn()
    model, lq = profile.subject.model, profile.subject.lq
    variables = jax.eval_shape(model.init, jax.random.key(0), lq)
    assert profile.parameters == sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert profile.flops == flops.count(model.apply, variables, lq) / 6
    for depth in (1, 2, 3):
        layers = measure.grouped(profile.layers, depth)
        assert sum(layer.parameters for layer in layers) == profile.parameters
        assert sum(layer.flops for layer in layers) == pytest.approx(profile.flops, rel=1e-12)
        assert len({layer.name for layer in layers}) == len(layers)
    assert [layer.name for layer in measure.grouped(profile.layers, 1)] == ["", "cell"]


def test_times_and_memory_are_measured():
    profile = swrn()
    assert len(profile.seconds) == 2 and min(profile.seconds) > 0
    assert profile.frame_seconds == pytest.approx(np.mean(profile.seconds) / 6)
    assert profile.mfu == profile.flops / profile.frame_seconds / profile.peak
    # Input and output, and something for what is between.
    bytes_at_least = 4 * profile.subject.lq.size * (1 + 16)
    assert bytes_at_least < profile.memory < 100 * bytes_at_least
    assert profile.masked_flops is None and profile.keep_ratios == {}


@functools.cache
def masked(kept):
    """A small MIA-VSR of which a token is computed by the bias of its block's predictor alone."""
    model = models.create(
        "miavsr", dim=8, depths=(2,), num_heads=(2,), window_size=(3, 4, 4), align=False
    )
    lq = np.random.default_rng(0).random((1, 4, HEIGHT, WIDTH, 3), np.float32)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, _bias(path, kept), np.float32),
        jax.eval_shape(model.init, jax.random.key(0), lq),
    )
    return measure.profile([measure.Subject("mia", model, lq, variables=variables)], rounds=1)[0]


def _bias(path, kept):
    names = [key.key for key in path]
    if "predictor" not in names or names[-1] != "bias":
        return 0.0
    return 1.0 if "block_1" in names and kept else -1.0


@pytest.mark.parametrize("kept", [False, True])
def test_what_masks_spare_is_as_counted_by_hand(kept):
    """Of a block whose mask keeps nothing, queries, attention and MLP are computed for the first
    of four frames; keys, values and the predictor for all."""
    profile = masked(kept)
    assert set(profile.keep_ratios) == {
        f"{branch}_{i}/group_0/block_{block}"
        for branch in ("forward", "backward")
        for i in (1, 2)
        for block in (0, 1)
    }
    for block, share in profile.keep_ratios.items():
        assert share == (kept and block.endswith("1"))
    dim, tokens, keys = 8, HEIGHT * WIDTH, 3 * 4 * 4
    by_token = 2 * dim * (dim + keys + keys + dim + 2 * dim + 2 * dim)  # q, logits, values, proj, mlp
    blocks = 4 if kept else 8
    spared = 3 / 4 * blocks * tokens * by_token
    assert profile.flops - profile.masked_flops == pytest.approx(spared, rel=1e-6)


def test_a_mask_that_keeps_all_spares_nothing():
    profile = masked(True)
    for layer in profile.layers:
        if "block_1" in layer.name or "block_0" not in layer.name:
            assert layer.masked_flops == layer.flops
    untouched = [layer for layer in profile.layers if "predictor" in layer.name]
    assert untouched and all(layer.masked_flops == layer.flops > 0 for layer in untouched)


def test_tables_show_layers_that_sum_to_the_whole():
    text = tables.report(swrn(), depth=2, rows=3)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    start = next(i for i, row in enumerate(rows) if row[:1] == ["layer"])
    shown = rows[start + 2 :]
    assert [row[0] for row in shown[-2:]] == ["(7 others)", "all"]
    numbers = [[float(cell.replace(",", "")) for cell in row[1:]] for row in shown]
    *parts, whole = np.array(numbers)
    np.testing.assert_allclose(sum(parts), whole, rtol=0.01)
    assert whole[0] == swrn().parameters and whole[1] == 100


def test_the_table_of_layers_is_as_deep_as_gives_some():
    assert "cell/conv_last" in tables.report(swrn(), None, 20)
    assert "cell/conv_last" not in tables.report(swrn(), 1, 20)


def test_masks_are_shown_by_branch_and_block_with_what_they_were_computed_on():
    text = tables.report(masked(True), 1, 5)
    row = next(line for line in text.splitlines() if line.startswith("| backward_1/group_0"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["0", "100", "50"]
    assert "Masks of random noise; weights: untrained. They mean nothing" in text


def test_a_comparison_has_a_row_a_model_and_the_same_clip_for_each(capsys, tmp_path):
    path = tmp_path / "new" / "costs.json"
    names = ["configs/swrn.py", MIA, "configs/bicubic.py:tiny"]
    assert main(["--compare", *names, *SMALL, f"--json={path}", "--config.model.dtype=float32"]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in table] == ["model", "-" * 23, *names]
    heads = [head.strip() for head in table[0].split("|")[1:-1]]
    assert heads[1:6] == ["parameters", "GFLOPs", "as masked", "ms", "times the first"]
    assert [row.split("|")[2].strip() for row in table[2:]] == ["43,472", "66,227", "0"]
    found = json.loads(path.read_text())
    assert list(found) == ["device", "models"] and found["device"] == "cpu"
    assert [model["name"] for model in found["models"]] == names
    swrn, mia, bicubic = found["models"]
    assert swrn["input"] == {"batch": 1, "frames": 3, "height": 16, "width": 24}
    assert (swrn["clip"], swrn["weights"]) == ("random noise", "untrained")
    assert sum(layer["flops"] for layer in swrn["layers"]) == swrn["flops_per_frame"]
    assert swrn["masked_flops_per_frame"] is None and swrn["keep_ratios"] == {}
    assert mia["masked_flops_per_frame"] < mia["flops_per_frame"] and len(mia["keep_ratios"]) == 8
    assert bicubic["parameters"] == bicubic["statistics"] == 0
    for model in found["models"]:
        assert len(model["seconds_of_calls"]) == 1 and model["memory_bytes"] > 0
    assert set(swrn) == set(mia) == set(bicubic)


def test_without_rounds_nothing_runs(capsys):
    assert main([SWRN, "--size=180x320", "--rounds=0"]) == 0
    text = capsys.readouterr().out
    assert "| parameters     |" in text and "43,472" in text
    assert "ms a frame" not in text and "MFU" not in text


def test_the_clip_can_be_ones_own(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / f"{i}.png")
    path = tmp_path / "costs.json"
    command = [SWRN, f"--input={tmp_path}", "--rounds=1", f"--json={path}"]
    assert main([*command, "--size=16x24", "--frames=2"]) == 0
    (model,) = json.loads(path.read_text())["models"]
    assert model["clip"] == f"the first 2 frames of {tmp_path}, the middle 16x24"
    assert model["input"] == {"batch": 1, "frames": 2, "height": 16, "width": 24}
    with pytest.raises(SystemExit):
        main([*command, "--frames=5"])
    assert "has 4 frames of 20x30, fewer or smaller than 5 of 20x30" in capsys.readouterr().err


def test_official_weights_are_taken(tmp_path):
    manifest, tensors, arrays = reference.load("miavsr_tiny")
    fields = manifest["config"] if "config" in manifest else {}
    assert tensors and arrays is not None and fields is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([SWRN, "--size=180"], "'180' is no HEIGHTxWIDTH, as 180x320 is"),
        ([SWRN, "--size=0x320"], "'0x320' is no HEIGHTxWIDTH"),
        ([SWRN, "--frames=0"], "'0' is no number from 1 on"),
        ([SWRN, "--rounds=-1"], "--rounds=-1 must be at least 0"),
        ([SWRN, "--dtype=float16"], "--dtype=float16 is neither float32 nor bfloat16"),
        (["--config=configs/swnr.py"], "no config file 'configs/swnr.py'; .* configs/swrn.py"),
        ([SWRN + ":tni"], "no variant 'tni', only reds, vimeo, tiny"),
        (["--config=tests/conftest.py"], "defines no get_config"),
        ([SWRN, "--config.model.dmi=8"], "no field 'model.dmi'; the closest is 'model.dim'"),
        ([SWRN, "--config.model.dim=wide"], "model.dim=wide does not fit 16"),
        ([SWRN, "--cofnig.model.dim=8"], "what is '--cofnig.model.dim=8'"),
        ([], "either --config or --compare"),
        ([SWRN, "--compare", "configs/swrn.py"], "either --config or --compare"),
        (["--compare", "configs/swrn.py", "--topology=v5e:2x2"], "--compare and --topology do not"),
        ([SWRN, "--workdir=W", "--weights=W"], "--workdir and --weights do not"),
        ([SWRN, "--train"], "--train needs --topology"),
        ([SWRN, "--workdir=nowhere"], "nowhere holds no run"),
        ([SWRN, "--weights=nowhere.pth"], "--weights=nowhere.pth"),
        ([SWRN, "--input=nowhere.mp4"], "--input: .*nowhere.mp4"),
        (["--config=configs/miavsr.py", "--size=32x32", "--rounds=0"], "at least 64x64"),
        ([SWRN, "--topology=v5e:3x3"], "no topology 'v5e:3x3'.*v5e:1x1, 2x2, .*v5p:2x2x1"),
        ([SWRN, "--topology=v9z:2x2"], "no topology 'v9z:2x2'"),
        ([SWRN, "--topology=v5e"], "no topology 'v5e'"),
    ],
)
def test_what_cannot_be_done_is_explained(words, message, capsys):
    import re

    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert re.search(f"error: .*{message}", said, re.DOTALL), said
