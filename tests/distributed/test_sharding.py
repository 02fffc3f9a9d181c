"""What devices tell each other."""

import os
import subprocess
import sys

import pytest

from jaxvsr.distributed.mesh import make_mesh, to_devices

CODE = """
import re
import jax
import numpy as np
from jaxvsr import models
from jaxvsr.distributed.mesh import make_mesh, placed, split_batch
from jaxvsr.training.step import make_loss, make_step
from jaxvsr.config import defaults
from jaxvsr.training.optimizer import make_optimizer
from jaxvsr.training.state import initial_state

model = models.create("miavsr", dim=4, depths=(2,), num_heads=(1,), mid_channels=4, features_hr=4)
config = defaults()
optimizer, _ = make_optimizer(config.optim, 10)
mesh = make_mesh()
state = placed(jax.eval_shape(lambda: initial_state(model, optimizer, 0, True)), mesh)
batch = {
    key: jax.ShapeDtypeStruct((4, 3, side, side, 3), np.uint8, sharding=split_batch(mesh))
    for key, side in (("lq", 64), ("gt", 256))
}
step = make_step(make_loss(model, config.loss), optimizer, 2, 0.9)
program = jax.jit(step, donate_argnums=0).lower(state, batch).compile().as_text()
kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
print(sorted(set(re.findall(rf" ({kinds})(?:-start)?[(]", program))))
"""

GATED = """
import re
import jax
import numpy as np
from jaxvsr import models
from jaxvsr.distributed.mesh import make_mesh, split_batch
from jaxvsr.evaluation.restoring import make_restorer
from jaxvsr.layers.window_chunks import map_chunks

fields = dict(dim=4, depths=(1,), num_heads=(1,), mid_channels=4, features_hr=4, align=False)
model = models.create("miavsr", **fields)
lq = np.random.default_rng(0).integers(0, 256, (2, 3, 12, 20, 3), np.uint8)
lq[1, 1:] = lq[1, 0]  # of which nothing changes
shapes = jax.eval_shape(model.init, jax.random.key(0), lq / np.float32(255))
rng = np.random.default_rng(1)


def fill(path, leaf):
    # Predictors keep what changed by more than 0.1 in all.
    if "predictor" in jax.tree_util.keystr(path):
        return np.full(leaf.shape, 1 if len(leaf.shape) == 2 else -0.1, np.float32)
    return np.float32(0.2 * rng.normal(size=leaf.shape))


variables = jax.tree_util.tree_map_with_path(fill, shapes)
gated = make_restorer(model.clone(gating="bucketed"))
sr, computed = gated(variables, lq)
assert len(sr.sharding.device_set) == 2
for i in range(2):
    alone = jax.jit(model.apply)(variables, lq[i : i + 1] / np.float32(255))
    np.testing.assert_allclose(sr[i], alone[0], rtol=1e-4, atol=1e-5)
print(float(computed[0].mean()) != float(computed[1].mean()))
program = gated.__wrapped__.lower(variables, lq).compile().as_text()
kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
print(sorted(set(re.findall(rf" ({kinds})(?:-start)?[(]", program))))

# The same for a jitted function without shard_map.
shape = jax.ShapeDtypeStruct((2 * 20, 6, 3), np.float32, sharding=split_batch(make_mesh()))
squared = jax.jit(lambda x: map_chunks(lambda _, x: x @ x.swapaxes(1, 2), None, x, clips=2))
program = squared.lower(shape).compile().as_text()
assert " while(" in program
print(sorted(set(re.findall(rf" ({kinds})(?:-start)?[(]", program))))
"""


# A GPU kernel, interpreted: XLA cannot divide a kernel by itself. Weights are not divided.
KERNEL = """
import functools, re
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxvsr.distributed.mesh import make_mesh, split_batch
from jaxvsr.kernels.{} import {} as kernel

mesh = make_mesh()
clips, weights = split_batch(mesh), NamedSharding(mesh, PartitionSpec())
inputs = [
    jax.ShapeDtypeStruct(shape, jnp.float32, sharding=clips if shape[0] == 2 else weights)
    for shape in {}
]
program = jax.jit(functools.partial(kernel, {} interpret=True)).lower(*inputs).compile()
kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
print(sorted(set(re.findall(rf" ({{kinds}})(?:-start)?[(]", program.as_text()))))
print(*program.output_shardings.spec)
"""
CONVOLUTION = (2, 3, 4, 16), (2, 3, 4, 54), (2, 3, 4, 4), (3, 3, 16, 16)
CLIPS = (2, 2, 3, 4, 16)
ATTENTION = (2, 2, 3, 4, 2, 8), CLIPS, CLIPS, (2, 2, 3, 4, 2, 4, 1, 2)
KERNELS = [
    ("deform_gpu", "convolve", CONVOLUTION, "max_residue=10.0,"),
    ("deform_attention_gpu", "attend", ATTENTION, "window=(1, 1),"),
]


def run_on_two_devices(code):
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_only_sums_go_between_devices():
    """Each device keeps its clips from the first layer to the loss: frames are never gathered."""
    assert run_on_two_devices(CODE) == "['all-reduce']"


def test_gated_devices_each_compute_their_own_tokens_and_say_nothing():
    assert run_on_two_devices(GATED).splitlines()[-3:] == ["True", "[]", "[]"]


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_devices_each_run_a_kernel_on_their_own_clips(kernel):
    assert run_on_two_devices(KERNEL.format(*kernel)).splitlines()[-2:] == ["[]", "data"]


def test_a_mesh_of_one_device():
    mesh = make_mesh()
    assert mesh.axis_names == ("data",) and mesh.size == 1


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_what_is_no_number_stays_on_the_host(kind):
    import numpy as np

    mesh = make_mesh()
    batch = {"lq": np.ones((2, 3), kind), "key": np.array(["a", "b"])}
    moved = to_devices(batch, mesh)
    assert list(moved) == ["lq"] and moved["lq"].dtype == kind
