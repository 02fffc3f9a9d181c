"""What devices tell each other."""

import os
import subprocess
import sys

import pytest

from jaxvsr import sharding

CODE = """
import re
import jax
import numpy as np
from jaxvsr import models, sharding, train
from jaxvsr.config import defaults
from jaxvsr.optimizer import make_optimizer
from jaxvsr.state import initial_state

model = models.create("miavsr", dim=4, depths=(2,), num_heads=(1,), mid_channels=4, features_hr=4)
config = defaults()
optimizer, _ = make_optimizer(config.optim, 10)
mesh = sharding.make_mesh()
state = sharding.placed(jax.eval_shape(lambda: initial_state(model, optimizer, 0, True)), mesh)
batch = {
    key: jax.ShapeDtypeStruct((4, 3, side, side, 3), np.uint8, sharding=sharding.split(mesh))
    for key, side in (("lq", 64), ("gt", 256))
}
step = train.make_step(train.make_loss(model, config.loss), optimizer, 2, 0.9)
program = jax.jit(step, donate_argnums=0).lower(state, batch).compile().as_text()
kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
print(sorted(set(re.findall(rf" ({kinds})(?:-start)?[(]", program))))
"""


def test_only_sums_go_between_devices():
    """Each device keeps its clips from the first layer to the loss: frames are never gathered."""
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['all-reduce']"


def test_a_mesh_of_one_device():
    mesh = sharding.make_mesh()
    assert mesh.axis_names == ("data",) and mesh.size == 1


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_what_is_no_number_stays_on_the_host(kind):
    import numpy as np

    mesh = sharding.make_mesh()
    batch = {"lq": np.ones((2, 3), kind), "key": np.array(["a", "b"])}
    moved = sharding.to_devices(batch, mesh)
    assert list(moved) == ["lq"] and moved["lq"].dtype == kind
