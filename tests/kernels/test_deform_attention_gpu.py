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
from jaxvsr.kernels import deform_attention_gpu, triton
from jaxvsr.layers import deform
from jaxvsr.models.rvrt_light import NeighborhoodAttention
from jaxvsr.profiling import gpus

KERNEL = "__gpu$xla.gpu.triton"


def inputs(b, t, h, w, c, d, taps, heads, dtype):
    """Queries, keys, values, and offsets inside, over the edges, and far away."""
    rng = np.random.default_rng(0)
    q, k, v = (
        jnp.asarray(rng.normal(size=(b, t, h, w, *last)), dtype)
        for last in ((heads, c // heads), (c,), (c,))
    )
    offset = rng.normal(scale=2, size=(b, t, h, w, t, d, taps, 2)).astype("float32")
    offset[:, 0, 0, :3] = np.reshape([1e12, -1e12, np.nan], (3, 1, 1, 1, 1))
    offset[:, 0, -1, 0] = 1.0
    return q, k, v, offset


@pytest.mark.parametrize(
    ("sizes", "window", "bar"),
    [
        # Two clips of three frames, more than one program, the last of them incomplete; 3 heads of
        # 6 channels in a group, both padded.
        ((2, 3, 3, 5, 36, 4, 2, 6, "float32"), (2, 1), 2e-6),
        # RVRT's channels and taps.
        ((1, 2, 2, 3, 144, 12, 9, 12, "bfloat16"), (3, 3), 4e-3),
    ],
)
def test_the_kernel_computes_the_plain_form(sizes, window, bar):
    arguments = inputs(*sizes)
    plain = functools.partial(deform._attend_at_offsets, window=window, train=True)
    expected = jax.jit(plain)(*arguments)
    kernel = functools.partial(deform_attention_gpu.attend, window=window, interpret=True)
    out = jax.jit(kernel)(*arguments)
    assert out.dtype == expected.dtype and out.shape == expected.shape
    assert np.isfinite(expected).all()
    assert reference.relative_error(out.astype("float32"), expected.astype("float32")) < bar


def test_the_kernel_computes_rvrt_lights_neighborhoods():
    q, k, v, _ = inputs(2, 2, 4, 5, 24, 2, 1, 3, "float32")
    module = NeighborhoodAttention(24, 3, (3, 3), jnp.float32)
    expected = jax.jit(functools.partial(module.apply, {}, method="attend"))(q, k, v)
    kernel = functools.partial(deform_attention_gpu.attend, window=(3, 3), interpret=True)
    assert reference.relative_error(jax.jit(kernel)(q, k, v), expected) < 2e-6


@pytest.mark.parametrize(
    ("heads", "groups", "served"), [(12, 12, True), (12, 3, False), (2, 12, False)]
)
def test_the_kernel_serves_heads_that_lie_in_one_group(monkeypatch, heads, groups, served):
    monkeypatch.setattr(triton, "serves", lambda clips, height: True)
    arguments = inputs(1, 2, 3, 3, 12, groups, 1, heads, "float32")
    assert deform_attention_gpu.serves(*arguments) == served


@pytest.mark.skipif(
    not importlib.util.find_spec("jax_cuda13_plugin"),
    reason="JAX's CUDA libraries are not installed: jaxvsr[cuda-compile] has them",
)
@pytest.mark.parametrize("train", [False, True])
def test_the_kernel_is_in_the_inference_for_a_gpu(train):
    mesh = make_mesh(gpus.devices("h100"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    q, k, v, offset = (
        jax.ShapeDtypeStruct((1, 2, 8, 8, last), dtype, sharding=everywhere)
        for last, dtype in (*[(144, jnp.bfloat16)] * 3, (432, jnp.float32))
    )
    attend = functools.partial(deform.deform_attention, num_heads=12, train=train)
    assert KERNEL not in jax.jit(attend).lower(q, k, v, offset).as_text()
    with jax.set_mesh(mesh):
        traced = jax.jit(attend).trace(q, k, v, offset)
    assert (KERNEL in traced.lower().compile(gpus.COMPILER_OPTIONS).as_text()) != train
