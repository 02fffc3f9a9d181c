"""Built-in weights: what is in the package, and that it restores."""

import jax
import numpy as np
import pytest

from jaxvsr import metrics, models, presets
from jaxvsr.data.degradations import h264, imresize
from jaxvsr.data.sources import TFDSClips
from jaxvsr.errors import InputError
from jaxvsr.upscale import upscale


def test_the_default_is_there():
    assert presets.DEFAULT in presets.names()


@pytest.mark.parametrize("name", presets.names())
def test_presets_are_small_and_say_how_they_were_made(name):
    model, variables, config = presets.load(name)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 2, 64, 64, 3), np.float32))
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, shapes)
    largest = 500_000 if name == presets.COMPRESSED else 100_000
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) <= largest
    assert presets.size(name) < 2**20
    assert config["train"].keys() >= {"seed", "steps"}


@pytest.mark.parametrize("name", presets.names())
def test_presets_are_better_than_bicubic(name, data_dir):
    gt = TFDSClips("dead_leaves/test", "val", str(data_dir)).read(0, range(3))["gt"]
    model, variables, _ = presets.load(name)
    lq = imresize(gt, 1 / model.scale)
    if name == presets.COMPRESSED:
        lq = h264(lq, crf=28)
    scores = [
        metrics.psnr(out, gt, 0, "y").mean()
        for out in (imresize(lq, model.scale), upscale(lq, model, variables))
    ]
    assert scores[1] > scores[0] + (0.3 if name == presets.COMPRESSED else 1)


def test_what_is_saved_is_loaded(tmp_path):
    model = models.create("swrn", dim=4, num_blocks=1)
    variables = jax.device_get(model.init(jax.random.key(0), np.zeros((1, 2, 8, 8, 3))))
    config = {"model": {"name": "swrn", "dim": 4, "num_blocks": 1}, "train": {"seed": 3}}
    presets.save("mine", variables, config, tmp_path)
    found, weights, said = presets.load("mine", tmp_path)
    assert found == model and said == config
    jax.tree.map(np.testing.assert_array_equal, weights, variables)
    with pytest.raises(InputError, match="no preset 'yours', only mine"):
        presets.load("yours", tmp_path)
