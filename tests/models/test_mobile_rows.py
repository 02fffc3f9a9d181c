"""Every row of the work log whose structure is known, and the two recurrent networks beside it."""

import json

import jax
import jax.numpy as jnp
import pytest
import reference

from configs.mobile import NETWORKS
from configs.mobile_rows import ROWS
from jaxvsr import flops, models

LOG = json.loads((reference.GOLDEN / "mobile" / "variants.json").read_text())
LQ = jax.ShapeDtypeStruct((1, 1, 180, 320, 3), jnp.float32)


def sizes(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_no_row_is_missing():
    assert ROWS.keys() == LOG.keys()
    assert len(ROWS) == 57


@pytest.mark.parametrize("row", ROWS)
def test_parameters_and_flops_are_the_log_s(row):
    name, fields = ROWS[row]
    model = models.create(name, **fields)
    variables = jax.eval_shape(model.init, jax.random.key(0), LQ)
    assert sizes(variables) == LOG[row]["params"]
    assert sizes(variables.get("batch_stats", {})) == LOG[row]["moving"]
    gflops = flops.log_convention(model.apply, variables, LQ) / 1e9
    assert f"{gflops:.3f}" == f"{LOG[row]['gflops'] or LOG[row]['counted']:.3f}"
    assert gflops == pytest.approx(LOG[row]["counted"], abs=4e-6)


@pytest.mark.parametrize(("network", "gflops"), [("SWRN", 4.995072), ("FANI", 7.735392)])
def test_flops_of_the_named_ones(network, gflops):
    name, fields = NETWORKS[network]
    model = models.create(name, **fields)
    variables = jax.eval_shape(model.init, jax.random.key(0), LQ)
    assert flops.log_convention(model.apply, variables, LQ) == pytest.approx(gflops * 1e9, abs=500)
