"""The GPU kernel of deformable convolution, interpreted on the CPU, against the plain form."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.sharding import NamedSharding, PartitionSpec

from jaxvsr.distributed.mesh import make_mesh
from jaxvsr.kernels import deform_gpu
from jaxvsr.layers.deform import DeformConv, FlowGuidedDeformConv
from jaxvsr.profiling import gpus

KERNEL = "__gpu$xla.gpu.triton"


def inputs(b, h, w, c, d, groups, features, n):
    """x, the predicted offsets and masks, flows that lead over the edges, and weights."""
    rng = np.random.default_rng(0)
    shapes = (b, h, w, c), (b, h, w, 27 * d), (b, h, w, 2 * n), (3, 3, c // groups, features)
    x, head, flows, weight = (rng.normal(size=shape).astype("float32") for shape in shapes)
    weight /= np.sqrt(9 * c).astype("float32")
    if not n:
        return x, 3 * head, None, weight
    flows[:, 0, :3, 0] = 1e12, -1e12, np.nan
    return x, 3 * head, 4 * flows, weight


def plain(x, head, flows, weight, groups, max_residue):
    module = DeformConv(weight.shape[-1], x.dtype, groups, max_residue)
    params = {"kernel": weight, "bias": jnp.zeros(weight.shape[-1])}
    return module.apply({"params": params}, x, head, flows)


@pytest.mark.parametrize(
    ("sizes", "max_residue", "dtype", "bar"),
    [
        # An odd size, more than one program, the last of them incomplete; groups; padded channels.
        ((2, 13, 21, 24, 2, 2, 20, 2), 10.0, "float32", 2e-6),
        # BasicVSR++'s channels.
        ((1, 5, 9, 128, 16, 1, 64, 2), 10.0, "bfloat16", 1e-3),
        # EDVR's: neither flows nor a bound.
        ((1, 5, 9, 16, 8, 1, 16, 0), None, "float32", 2e-6),
    ],
)
def test_the_kernel_computes_the_plain_form(sizes, max_residue, dtype, bar):
    x, *others = inputs(*sizes)
    x = x.astype(dtype)
    expected = jax.jit(plain, static_argnums=(4, 5))(x, *others, sizes[5], max_residue)
    convolve = functools.partial(deform_gpu.convolve, max_residue=max_residue, interpret=True)
    out = jax.jit(convolve)(x, *others)
    assert out.dtype == dtype
    assert np.isfinite(expected).all()
    assert reference.relative_error(out.astype("float32"), expected.astype("float32")) < bar


@pytest.mark.skipif(
    not importlib.util.find_spec("jax_cuda13_plugin"),
    reason="JAX's CUDA libraries are not installed: jaxvsr[cuda-compile] has them",
)
def test_the_kernel_is_in_the_inference_for_a_gpu_and_not_in_that_for_a_cpu():
    module = FlowGuidedDeformConv(64, 16, 10.0, dtype=jnp.bfloat16)
    flows = [jax.ShapeDtypeStruct((1, 8, 8, 2), jnp.float32)] * 2
    feats = jax.ShapeDtypeStruct((1, 8, 8, 128), jnp.bfloat16)
    arguments = feats, jax.ShapeDtypeStruct((1, 8, 8, 196), jnp.bfloat16), flows
    arguments = jax.eval_shape(module.init, jax.random.key(0), *arguments), *arguments
    assert KERNEL not in jax.jit(module.apply).lower(*arguments).as_text()

    mesh = make_mesh(gpus.devices("h100"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), arguments
    )
    with jax.set_mesh(mesh):
        traced = jax.jit(module.apply).trace(*arguments)
    assert KERNEL in traced.lower().compile(gpus.COMPILER_OPTIONS).as_text()
