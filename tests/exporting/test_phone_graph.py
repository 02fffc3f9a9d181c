"""Graphs of networks for phones: their operations and their numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.mobile import NETWORKS
from configs.mobile_rows import ROWS
from jaxvsr import models
from jaxvsr.errors import InputError
from jaxvsr.exporting import clips, flatbuffer, litert
from jaxvsr.exporting.phone_file import parity
from jaxvsr.exporting.phone_graph import phone_graph
from jaxvsr.exporting.playing import Player

SIZE = (32, 48)
OPERATIONS = {"SWRN": 28, "MobileRRN": 25, "FANI": 175, "SORT_2": 69, "ABPN_0": 12}
REST = sorted((ROWS.keys() | NETWORKS.keys()) - {*OPERATIONS, "SWAT_3", "SORT_3"})
# LayerNorm and a standard deviation need one operation each that the other networks do without.
ROOTS = {"RSQRT": ("swat", "afavsr"), "SQRT": ("sort",)}


def network(row, **more):
    """A network with random weights; zero biases and unit gains would hide mistakes."""
    name, fields = (NETWORKS | ROWS)[row]
    model = models.create(name, **fields, **more)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 16, 16, 3)))
    rng = np.random.default_rng(0)

    def weight(path, shape):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1, shape.shape).astype(np.float32)
        fan_in = np.prod(shape.shape[:-1]) if len(shape.shape) > 1 else 100
        return (0.7 * rng.normal(size=shape.shape) / np.sqrt(fan_in)).astype(np.float32)

    return model, jax.tree_util.tree_map_with_path(weight, shapes)


def count_checked_operations(row, **more):
    pytest.importorskip("litert_converter")
    graph = phone_graph(*network(row, **more), SIZE)
    data = litert.convert(graph)
    found = flatbuffer.operations(data)
    assert found.keys() <= flatbuffer.PHONE_OPERATIONS
    for root, names in ROOTS.items():
        assert root not in found or (NETWORKS | ROWS)[row][0] in names
    assert flatbuffer.largest_rank(data) <= 4
    ends = flatbuffer.ends(data)
    assert ends.keys() == {*graph.inputs, *graph.outputs}
    assert ends["sr"].shape == (1, 4 * SIZE[0], 4 * SIZE[1], 3)
    errors = parity(graph, Player(data), clips.moving_texture(SIZE))
    assert errors["parity_sr"] < 1e-6 and errors.get("parity_hidden", 0) < 1e-5
    return sum(found.values())


@pytest.mark.parametrize("row", OPERATIONS)
def test_number_of_operations(row):
    assert count_checked_operations(row) == OPERATIONS[row]


@pytest.mark.parametrize("row", ["SWAT_3", "SORT_3"])
def test_roots(row):
    assert count_checked_operations(row) > 0


@pytest.mark.slow
@pytest.mark.parametrize("row", REST)
def test_every_network_of_the_log(row):
    assert count_checked_operations(row) > 0


def test_parallel_branches_are_fused():
    assert count_checked_operations("SWRN", reparam=True) == OPERATIONS["SWRN"]


def test_other_scales():
    pytest.importorskip("litert_converter")
    graph = phone_graph(*network("MobileRRN", scale=3), SIZE)
    player = Player(litert.convert(graph))
    assert player.ends["sr"].shape == (1, 96, 144, 3)
    assert parity(graph, player, clips.moving_texture(SIZE))["parity_sr"] < 1e-6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("basicvsr", "BasicVSR needs the whole clip .* on a phone: abpn, .*swrn"),
        ("bicubic", "Bicubic .*; models that run frame by frame on a phone: abpn"),
    ],
)
def test_other_networks_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        phone_graph(models.create(name), {}, SIZE)


@pytest.mark.parametrize(
    ("size", "message"), [((0, 48), "both positive"), ((20_000, 20_000), "is too large")]
)
def test_impossible_sizes_are_refused(size, message):
    model = models.create("swrn")
    with pytest.raises(InputError, match=message):
        phone_graph(model, {"params": {"bias": np.zeros(48)}}, size)
