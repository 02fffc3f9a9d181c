import functools

import jax
import numpy as np
import pytest
import reference

from jaxvsr.models.spynet import SpyNet, clip_flows
from jaxvsr.weights import spynet_from_torch


@pytest.mark.parametrize("size", ["64x64", "70x90", "48x33"])
def test_spynet_golden(size):
    _, tensors, arrays = reference.load("op_spynet")
    variables = {"params": spynet_from_torch(tensors)}
    ref, supp = (arrays[f"{size}/{k}"][None] / np.float32(255) for k in ("ref", "supp"))
    apply = jax.jit(functools.partial(SpyNet().apply, mutable="intermediates"))
    flow, sown = apply(variables, ref, supp)
    for level in range(5):
        expected = arrays[f"{size}/level{level}"]
        assert reference.relative_error(sown["intermediates"]["level"][level][0], expected) < 1e-5
    assert reference.relative_error(flow[0], arrays[f"{size}/flow"]) < 1e-5


def test_spynet_without_weights_gives_no_flow():
    frames = jax.random.uniform(jax.random.key(0), (2, 1, 40, 50, 3))
    flow, _ = SpyNet().init_with_output(jax.random.key(1), *frames)
    np.testing.assert_array_equal(flow, np.zeros((1, 40, 50, 2)))


def test_clip_flows_go_both_ways():
    _, tensors, _ = reference.load("op_spynet")
    variables = {"params": spynet_from_torch(tensors)}
    lq = jax.random.uniform(jax.random.key(0), (2, 3, 32, 40, 3))

    @jax.jit
    def run(lq):
        model = SpyNet().bind(variables)
        pairs = model(lq[:, 2], lq[:, 1]), model(lq[:, 0], lq[:, 1])
        return clip_flows(model, lq), clip_flows(model, lq[:, :1]), pairs

    (forward, backward), (alone, _), pairs = run(lq)
    assert forward.shape == backward.shape == (2, 2, 32, 40, 2)
    np.testing.assert_allclose(forward[:, 1], pairs[0], atol=1e-5)
    np.testing.assert_allclose(backward[:, 0], pairs[1], atol=1e-5)
    assert alone.shape == (2, 0, 32, 40, 2)
