"""Networks with fewer channels between convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exporting.test_phone_graph import network
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxvsr import models
from jaxvsr.errors import InputError
from jaxvsr.training.channels import check_prunable, prune_channels


def shapes(model):
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 8, 8, 3)))
    return {path: leaf.shape for path, leaf in flatten_dict(variables).items()}


def silence(variables, widths):
    """Sets to zero all that enters the channels which a narrower network lacks, chosen freely."""
    rng = np.random.default_rng(1)
    flat = dict(flatten_dict(variables))
    for kernel in [path for path in flat if path[-1] == "kernel"]:
        width = flat[kernel].shape[-1]
        dead = rng.permutation(width)[: width - widths[kernel][-1]]
        layer = kernel[:-1]
        norm = (*layer[1:-1], "norm")
        places = [kernel, (*layer, "bias")]
        if kernel[-2] == "expand":
            places += [("params", *norm, "bias"), ("batch_stats", *norm, "mean")]
        for place in places:
            if place in flat:
                flat[place] = flat[place].copy()
                flat[place][..., dead] = 0
    return unflatten_dict(flat)


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ("SWRN", {}),
        ("FANI", {"num_blocks": 1}),
        pytest.param("ABPN_0", {}, marks=pytest.mark.slow),
        pytest.param("SWAT_3", {}, marks=pytest.mark.slow),
    ],
)
def test_silent_channels_are_removed_without_a_difference(row, fields):
    model, variables = network(row, **fields)
    narrower = model.clone(prune_channels=0.5)
    widths = shapes(narrower)
    variables = silence(variables, widths)
    pruned = prune_channels(variables, narrower)
    assert {path: leaf.shape for path, leaf in flatten_dict(pruned).items()} == widths
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (pruned, variables)]
    assert sizes[0] < 0.9 * sizes[1]

    rng = np.random.default_rng(2)
    state = model.initial_state((1, 6, 8, 3))
    state = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), state)
    frames = jnp.asarray(rng.uniform(size=(1, 2 + model.lookahead, 6, 8, 3)), jnp.float32)
    dense = jax.jit(model.apply, static_argnames="method")(variables, state, frames, method="step")
    small = jax.jit(narrower.apply, static_argnames="method")(pruned, state, frames, method="step")
    assert np.std(dense[0]) > 0.1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), dense, small)


def test_the_largest_channels_stay_in_their_order():
    model, variables = network("MobileRRN", num_blocks=1)
    narrower = model.clone(prune_channels=0.7)
    kernel = variables["params"]["cell"]["block_0_conv1"]["kernel"]
    order = np.argsort(-np.abs(kernel).sum((0, 1, 2)))
    pruned = prune_channels(variables, narrower)["params"]["cell"]
    kept = np.sort(order[:5])  # 0.3 of 16
    np.testing.assert_array_equal(pruned["block_0_conv1"]["kernel"], kernel[..., kept])
    after = variables["params"]["cell"]["block_0_conv2"]["kernel"][:, :, kept]
    np.testing.assert_array_equal(pruned["block_0_conv2"]["kernel"], after)


def test_impossible_pruning_is_explained():
    with pytest.raises(ValueError, match="prune_channels=1.0 must be a fraction"):
        models.create("swrn", prune_channels=1.0)
    with pytest.raises(InputError, match="prune_channels=0.5: SORT .* has no channels"):
        check_prunable(models.create("sort", prune_channels=0.5))
    check_prunable(models.create("sort"))
    check_prunable(models.create("bicubic"))
    half = models.create("swrn", prune_channels=0.5)
    with pytest.raises(InputError, match="made with prune_channels=0.75; .* got 0.5"):
        prune_channels({}, half, 0.75)
    with pytest.raises(InputError, match="needs model.reparam=False"):
        prune_channels({}, half.clone(reparam=True))
    assert prune_channels({}, half, 0.5) == {}
