"""The TPU's kernel of the window block, interpreted, against the plain form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from window_blocks import BARS, WINDOW, arguments, make, random_variables

from jaxvsr import flops
from jaxvsr.kernels import block_tpu, block_tpu_kept, switch
from jaxvsr.kernels.block_tables import BlockTables, Gate
from jaxvsr.layers import window_refinement
from jaxvsr.models.iiavsr import IIABlock
from jaxvsr.models.miavsr import MIABlock, initial_memory
from jaxvsr.models.psrt import PSRTBlock

SIZE = (20, 21)  # 9 windows of 4 kinds, and padding


@pytest.fixture
def on_tpu(monkeypatch):
    """Computes the branch for TPUs, two windows at a time."""
    monkeypatch.setattr(block_tpu, "WINDOWS", {64: 2, 192: 2})  # 9 is not a multiple
    for module, name in ((block_tpu, "refine"), (block_tpu_kept, "refine_kept")):
        kernel = getattr(module, name).__wrapped__
        monkeypatch.setattr(module, name, functools.partial(kernel, interpret=True))
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *args, tpu, default, **others: tpu(*args)
    )


def plain(block, *args):
    return jax.jit(block.clone(attention="plain").apply)(*args)


CASES = [
    pytest.param(IIABlock, False, "bfloat16", marks=pytest.mark.slow),
    (PSRTBlock, True, "float32"),
]


@pytest.mark.parametrize(("block", "shifted", "dtype"), CASES)
def test_the_kernel_equals_the_plain_form(on_tpu, block, shifted, dtype):
    block = make(block, shifted=shifted, dtype=jnp.dtype(dtype))
    args = arguments(SIZE, 3 if isinstance(block, PSRTBlock) else 1, dtype)
    variables = random_variables(block, *args)
    expected = plain(block, variables, *args)
    out = jax.jit(block.apply)(variables, *args)
    assert out.dtype == dtype
    assert reference.relative_error(out, expected) < BARS[dtype]


def test_masks_keep_the_previous_outputs(on_tpu):
    block = make(MIABlock)
    first, second = (arguments(SIZE, 1, seed=seed) for seed in (0, 1))
    memory = initial_memory(first[0], WINDOW)
    variables = random_variables(block, *first, 0.0, memory)

    def two_frames(block):
        apply = jax.jit(block.apply)

        def compute(variables):
            x, state = apply(variables, *first, 0.0, memory)
            y, _ = apply(variables, *second, 0.0, state)
            return x, y

        return compute

    expected = two_frames(block.clone(attention="plain"))
    found = two_frames(block), two_frames(block.clone(gating="bucketed"))
    for bias in (0.0, 1e9, -1e9):  # some tokens are kept, all, none
        variables["params"]["predictor"]["linear"]["bias"] = np.float32([bias])
        wanted = expected(variables)
        for out in (compute(variables) for compute in found):
            assert reference.relative_error(out, wanted) < BARS["float32"]


def test_windows_without_kept_tokens_are_not_computed(monkeypatch):
    """Neighbors of such windows are not read: they hold NaN."""
    monkeypatch.setattr(block_tpu, "WINDOWS", {64: 2})
    c, hidden, heads, windows = 8, 16, 2, 5
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.float32(0.3 * rng.normal(size=shape))

    matrix, vector, by_kind = (c, c), (c,), (2, 192, c)
    tables = BlockTables(
        *(normal(*shape) for shape in (matrix, vector, matrix, by_kind, matrix, by_kind)),
        normal(2, heads, 64, 192),
        *(normal(*shape) for shape in (matrix, vector, (c, hidden), (hidden,))),
        *(normal(*shape) for shape in ((hidden, c), vector)),
    )
    packed = block_tpu.pack(tables, jnp.float32)
    kind = jnp.arange(windows, dtype=jnp.int32) % 2
    x, last, neighbors = normal(windows, 64, c), normal(windows, 64, c), normal(windows, 128, c)
    scattered = rng.random((windows, 64, 1)) < 0.5
    for chosen in ([3], [], range(windows), [0, 1, 4]):
        here = np.isin(np.arange(windows), chosen)[:, None, None]
        gate = Gate(jnp.float32(scattered & here), last, jnp.zeros_like(last))
        busy = -(-len(chosen) // 2) * 2  # the last program with kept tokens is full
        read = np.argsort(~here[:, 0, 0], stable=True)[:busy]
        poisoned = jnp.full_like(neighbors, jnp.nan).at[read].set(neighbors[read])
        expected = block_tpu.refine(packed, kind, x, neighbors, gate, interpret=True)
        found = block_tpu_kept.refine_kept(packed, kind, x, poisoned, gate, interpret=True)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_the_plain_form():
    def plain(x, kind):
        return jnp.sin(x) * kind

    function = window_refinement.with_gradient_of(plain, lambda x, kind: jnp.round(x) * kind)
    args = jnp.float32(1.3), jnp.int32(2)
    assert function(*args) == 2
    for transform in (jax.grad, jax.jacfwd):
        assert transform(function)(*args) == transform(plain)(*args)


def test_other_platforms_compute_the_plain_form():
    block, args = make(IIABlock), arguments(SIZE, 1)
    variables = random_variables(block, *args)
    np.testing.assert_array_equal(
        jax.jit(block.apply)(variables, *args), plain(block, variables, *args)
    )


def test_kernels_are_divided_by_a_mesh_only(monkeypatch):
    assert window_refinement.can_divide(9)
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert not window_refinement.can_divide(10)  # all, or a half, may be on this device
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((2,), ("data",))):
        assert window_refinement.can_divide(10) and not window_refinement.can_divide(9)


def test_flops_are_counted_once_and_without_padding():
    block, args = make(IIABlock), arguments(SIZE, 1)
    variables = random_variables(block, *args)
    found, expected = (
        flops.count(each.apply, variables, *args)
        for each in (block, block.clone(attention="plain"))
    )
    assert found == expected > 0


def test_blocks_that_the_kernel_does_not_compute(monkeypatch):
    def fits(queries=64, dim=120, heads=6, keys=192, dtype=jnp.bfloat16):
        return block_tpu.fits(jnp.zeros((heads, queries, keys)), dim, dtype)

    assert fits() and fits(queries=192) and fits(dim=16, heads=1, dtype=jnp.float32)
    assert not fits(queries=16, keys=48)
    assert not fits(dim=180)
    assert not fits(dtype=jnp.float16)
    monkeypatch.setenv(switch.VARIABLE, "off")
    assert not fits()


@pytest.mark.parametrize("attention", ["cudnn", ""])
def test_unknown_attention_is_an_error(attention):
    with pytest.raises(ValueError, match=r"must be 'auto' or 'plain'"):
        window_refinement.check_attention(attention)
