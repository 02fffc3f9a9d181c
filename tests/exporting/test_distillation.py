"""Distillation into quantized, pruned and clustered networks."""

import dataclasses

import jax
import numpy as np
import pytest
from exporting.test_phone_graph import network

from jaxvsr.exporting import clips, distillation
from jaxvsr.exporting.phone_graph import phone_graph, predict
from jaxvsr.training.compression import compress

SIZE = (24, 32)


@pytest.fixture(scope="module")
def graph():
    return phone_graph(*network("MobileRRN"), SIZE)


def error(graph, variables, ranges):
    frames = np.stack(list(distillation.windows(clips.moving_texture(SIZE), 2)))
    frames = frames.astype(np.float32)
    exact = distillation.run_clip(graph, graph.variables, frames)
    return float(abs(distillation.run_clip(graph, variables, frames, ranges) - exact).mean())


def test_distillation_reduces_the_loss_of_pruning_and_quantization(graph):
    texture = [clips.moving_texture(SIZE, 8)]
    ranges = distillation.activation_ranges(graph, texture)
    start = {"params": compress(graph.variables["params"], 0.5)}
    student = dataclasses.replace(graph, variables=start)
    trained = distillation.distil(graph, student, texture, 20, quantized=True, prune=0.5)
    assert 0 < error(graph, trained, ranges) < 0.8 * error(graph, start, ranges)


def test_distillation_keeps_zeros_and_clusters(graph):
    start = {"params": compress(graph.variables["params"], 0.5, 10)}
    trained = distillation.distil(
        graph,
        dataclasses.replace(graph, variables=start),
        [clips.moving_texture(SIZE, 8)],
        5,
        quantized=False,
        prune=0.5,
        clusters=10,
    )
    kernels = zip(*(_kernels(tree["params"]) for tree in (start, trained)), strict=True)
    for before, after in kernels:
        assert (before != after).any()
        np.testing.assert_array_equal(before == 0, after == 0)
        assert len(np.unique(after)) <= 10


def test_ranges_contain_zero_and_cover_every_convolution(graph):
    ranges = distillation.activation_ranges(graph, [clips.moving_texture(SIZE)])
    assert all(low <= 0 < high for low, high in ranges.values())
    assert len(ranges) == len(_kernels(graph.variables["params"])) + 2  # the state, the residual


def test_networks_without_a_state():
    graph = phone_graph(*network("ABPN_0", num_blocks=1), SIZE)
    texture = [clips.moving_texture(SIZE)]
    trained = distillation.distil(graph, graph, texture, 1, quantized=True)
    assert trained.keys() == graph.variables.keys()


def test_the_alignment_of_a_batch_is_that_of_each_sample():
    graph = phone_graph(*network("MVSR_13", num_blocks=1), SIZE)
    frames = np.concatenate(list(distillation.windows(clips.moving_texture(SIZE, 2), 3)))
    frames = np.float32(frames)
    (both,) = predict(graph, graph.variables, frames)
    for i in range(2):
        (one,) = predict(graph, graph.variables, frames[i : i + 1])
        np.testing.assert_allclose(both[i], one[0], rtol=1e-4, atol=1e-3)


def _kernels(tree):
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return [np.asarray(leaf) for path, leaf in paths if path[-1].key == "kernel"]
