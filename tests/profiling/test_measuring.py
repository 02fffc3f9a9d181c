"""Layers, FLOPs and times of networks, against counts by hand."""

import jax
import numpy as np
import pytest
from profiled import HEIGHT, WIDTH, masked, swrn

from jaxvsr import flops
from jaxvsr.profiling import measuring


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
        layers = measuring.grouped(profile.layers, depth)
        assert sum(layer.parameters for layer in layers) == profile.parameters
        assert sum(layer.flops for layer in layers) == pytest.approx(profile.flops, rel=1e-12)
        assert len({layer.name for layer in layers}) == len(layers)
    assert [layer.name for layer in measuring.grouped(profile.layers, 1)] == ["", "cell"]


def test_times_and_memory_are_measured():
    profile = swrn()
    assert len(profile.seconds) == 2 and min(profile.seconds) > 0
    assert profile.frame_seconds == pytest.approx(np.mean(profile.seconds) / 6)
    assert profile.mfu == profile.flops / profile.frame_seconds / profile.peak
    # Input and output, and something for what is between.
    bytes_at_least = 4 * profile.subject.lq.size * (1 + 16)
    assert bytes_at_least < profile.memory < 100 * bytes_at_least
    assert profile.masked_flops is None and profile.keep_ratios == {}


def test_what_masks_spare_is_as_counted_by_hand():
    """Queries, attention and MLP are spared, but not keys, values and the predictor."""
    profile = masked()
    branches = ("backward_1", "forward_1", "backward_2", "forward_2")
    assert profile.keep_ratios == {
        f"{branch}/group_0/block_{block}": block for branch in branches for block in (0, 1)
    }
    dim, tokens, keys = 8, HEIGHT * WIDTH, 3 * 4 * 4
    # The query, logits, values by weights, projection, and the MLP's two layers.
    by_token = 2 * dim * (dim + keys + keys + dim + 2 * dim + 2 * dim)
    # Of four frames each branch computes the first in whole.
    spared = len(branches) * 3 / 4 * tokens * by_token
    # A little may be done to weights, inside of blocks and for no token.
    assert profile.flops - profile.masked_flops == pytest.approx(spared, rel=1e-2)
    for layer in profile.layers:
        if "block_0" not in layer.name:
            assert layer.masked_flops == layer.flops
