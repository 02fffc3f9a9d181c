"""The GPU kernel of deformable attention, interpreted on the CPU, against the plain form."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.sharding import NamedSharding, PartitionSpec

from jaxvsr.distributed.mesh import make_mesh
from jaxvsr.kernels import deform_attention_gpu
from jaxvsr.layers import deform
from jaxvsr.profiling import gpus

KERNEL = "__gpu$xla.gpu.triton"


def inputs(b, t, h, w, c, d, taps, heads, dtype):
    """Keys and values, queries, and positions inside, over the edges, and far away."""
    rng = np.random.default_rng(0)
    kv, q = (
        jnp.asarray(rng.normal(size=(b, t, h, w, *last)), dtype)
        for last in ((2 * c,), (heads, c // heads))
    )
    ys, xs = (
        rng.uniform(-3, side + 2, (b, t, h, w, t, d, taps)).astype("float32") for side in (h, w)
    )
    ys[:, 0, 0, :3], xs[:, 0, -1, 0] = np.reshape([1e12, -1e12, np.nan], (3, 1, 1, 1)), 1.0
    return kv, q, ys, xs


@pytest.mark.parametrize(
    ("sizes", "bar"),
    [
        # Two clips of three frames, more than one program, the last of them incomplete; 3 heads of
        # 6 channels in a group, both padded.
        ((2, 3, 3, 5, 36, 4, 2, 6, "float32"), 2e-6),
        # RVRT's channels and taps.
        ((1, 2, 2, 3, 144, 12, 9, 12, "bfloat16"), 4e-3),
    ],
)
def test_the_kernel_computes_the_plain_form(sizes, bar):
    arguments = inputs(*sizes)
    expected = jax.jit(deform._attend)(*arguments)
    out = jax.jit(functools.partial(deform_attention_gpu.attend, interpret=True))(*arguments)
    assert out.dtype == expected.dtype and out.shape == expected.shape
    assert np.isfinite(expected).all()
    assert reference.relative_error(out.astype("float32"), expected.astype("float32")) < bar


@pytest.mark.parametrize(("heads", "groups", "served"), [(12, 12, True), (12, 3, False)])
def test_the_kernel_serves_heads_that_lie_in_one_group(monkeypatch, heads, groups, served):
    monkeypatch.setattr(deform_attention_gpu.triton, "serves", lambda clips, height: True)
    assert deform_attention_gpu.serves((1, 2, 8, 8, 288), heads, groups) == served
    assert not deform_attention_gpu.serves((1, 2, 8, 8, 288), 2, 12)


@pytest.mark.skipif(
    not importlib.util.find_spec("jax_cuda13_plugin"),
    reason="JAX's CUDA libraries are not installed: jaxvsr[cuda-compile] has them",
)
@pytest.mark.parametrize("train", [False, True])
def test_the_kernel_is_in_the_inference_for_a_gpu(train):
    mesh = make_mesh(gpus.devices("h100"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    q, kv, offset = (
        jax.ShapeDtypeStruct((1, 2, 8, 8, last), dtype, sharding=everywhere)
        for last, dtype in ((144, jnp.bfloat16), (288, jnp.bfloat16), (432, jnp.float32))
    )
    attend = functools.partial(deform.deform_attention, num_heads=12, train=train)
    assert KERNEL not in jax.jit(attend).lower(q, kv, offset).as_text()
    with jax.set_mesh(mesh):
        traced = jax.jit(attend).trace(q, kv, offset)
    assert (KERNEL in traced.lower().compile(gpus.COMPILER_OPTIONS).as_text()) != train
