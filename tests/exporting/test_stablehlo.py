"""StableHLO programs."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxvsr import models, presets
from jaxvsr.errors import InputError
from jaxvsr.exporting.stablehlo import export_stablehlo, write_stablehlo

SERVER = """
import sys, pathlib, numpy as np, jax
sys.modules["jaxvsr"] = None  # an import would fail
program = jax.export.deserialize(bytearray(pathlib.Path(sys.argv[1]).read_bytes()))
with jax.default_matmul_precision("highest"):
    np.save(sys.argv[3], program.call(np.load(sys.argv[2])))
"""


def test_a_server_loads_it_without_this_package(tmp_path, unchecked):
    model, variables, _ = presets.load("swrn")
    data = export_stablehlo(model, variables, (16, 24), frames=3)
    path = write_stablehlo(data, {"preset": "swrn"}, "swrn", tmp_path)
    described = json.loads(path.with_suffix(".json").read_text())
    assert described["sr"].startswith("float32[b,3,64,96,3]: ")
    lq = np.random.default_rng(0).uniform(size=(2, 3, 16, 24, 3)).astype(np.float32)
    np.save(tmp_path / "lq.npy", lq)
    files = [path, tmp_path / "lq.npy", tmp_path / "sr.npy"]
    command = [sys.executable, "-c", SERVER, *map(str, files)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = jax.jit(model.apply)(variables, lq)
    np.testing.assert_allclose(np.load(tmp_path / "sr.npy"), expected, atol=1e-6)


def test_a_masked_network_takes_any_batch_size(unchecked):
    model = models.create("miavsr", dim=8, depths=(2,), num_heads=(2,), align=False)
    shape = models.example(model, 2, 16, 16)
    shapes = jax.eval_shape(model.init, jax.random.key(0), shape)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    data = export_stablehlo(model, variables, (16, 16), frames=2)
    assert jax.export.deserialize(bytearray(data)).in_avals[0].shape[1:] == (2, 16, 16, 3)


def test_impossible_clips_are_one_line():
    model = models.create("basicvsrpp")
    with pytest.raises(InputError, match="^BasicVSRPP cannot take clips of 2x8x8: [^\\n]*64x64"):
        export_stablehlo(model, {"params": {}}, (8, 8), frames=2)
