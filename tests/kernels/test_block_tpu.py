"""The TPU's kernel of the window block, interpreted, against the plain form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr.kernels import block_tpu
from jaxvsr.layers import window_refinement
from jaxvsr.layers.window_transformer import neighbor_windows
from jaxvsr.models.iiavsr import IIABlock
from jaxvsr.models.miavsr import MIABlock, initial_memory
from jaxvsr.models.psrt import PSRTBlock

WINDOW, DIM, SIZE = (3, 8, 8), 12, (12, 21)  # 6 windows of 4 kinds, and padding
BARS = {"float32": 2e-6, "bfloat16": 2e-2}


@pytest.fixture
def on_tpu(monkeypatch):
    """Computes the branch for TPUs, two or four windows at a time."""
    monkeypatch.setattr(block_tpu, "WINDOWS", {64: 4, 192: 2})  # 6 is not a multiple
    interpreted = functools.partial(block_tpu.refine.__wrapped__, interpret=True)
    monkeypatch.setattr(block_tpu, "refine", interpreted)
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *args, tpu, default, **others: tpu(*args)
    )


def make(block, **fields):
    fields = {"shifted": True, "dtype": jnp.float32} | fields
    return block(num_heads=2, window_size=WINDOW, mlp_ratio=2.0, train=False, **fields)


def arguments(frames, dtype="float32", seed=0):
    """x and neighbors of a block that refines so many of three frames."""
    clip = 3 + 2 * jax.random.normal(jax.random.key(seed), (1, 3, *SIZE, DIM), dtype)
    others = clip[:, : 3 - frames]
    return clip[:, 3 - frames :], neighbor_windows(others, WINDOW, dtype) if frames < 3 else None


def random_variables(block, *args):
    shapes = jax.eval_shape(block.init, jax.random.key(1), *args)
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: np.float32(0.3 * rng.normal(size=leaf.shape)), shapes)


def plain(block, *args):
    return jax.jit(block.clone(attention="plain").apply)(*args)


CASES = [
    (IIABlock, False, "bfloat16"),
    (IIABlock, True, "float32"),
    (PSRTBlock, True, "float32"),
]


@pytest.mark.parametrize(("block", "shifted", "dtype"), CASES)
def test_the_kernel_equals_the_plain_form(on_tpu, block, shifted, dtype):
    block = make(block, shifted=shifted, dtype=jnp.dtype(dtype))
    args = arguments(3 if isinstance(block, PSRTBlock) else 1, dtype)
    variables = random_variables(block, *args)
    expected = plain(block, variables, *args)
    out = jax.jit(block.apply)(variables, *args)
    assert out.dtype == dtype
    assert reference.relative_error(out, expected) < BARS[dtype]


def test_masks_keep_the_previous_outputs(on_tpu):
    block = make(MIABlock)
    first, second = (arguments(1, seed=seed) for seed in (0, 1))
    memory = initial_memory(first[0], WINDOW)
    variables = random_variables(block, *first, 0.0, memory)

    def two_frames(block):
        def compute(variables):
            x, state = block.apply(variables, *first, 0.0, memory)
            y, new = block.apply(variables, *second, 0.0, state)
            whole = new.attn[0] + new.hidden[0]  # the first window holds no padding
            return x, y, whole

        return jax.jit(compute)

    computed, expected = two_frames(block), two_frames(block.clone(attention="plain"))
    for bias in (0.0, 1e9, -1e9):  # some tokens are kept, all, none
        variables["params"]["predictor"]["linear"]["bias"] = np.float32([bias])
        for a, b in zip(computed(variables), expected(variables), strict=True):
            assert reference.relative_error(a, b) < BARS["float32"]


def test_gradients_are_those_of_the_plain_form(on_tpu):
    block, args = make(IIABlock), arguments(1)
    variables = random_variables(block, *args)

    def loss(block, variables):
        return (block.apply(variables, *args) ** 2).mean()

    found, expected = (
        jax.jit(jax.grad(functools.partial(loss, each)))(variables)
        for each in (block, block.clone(attention="plain"))
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )


def test_other_platforms_compute_the_plain_form():
    block, args = make(IIABlock), arguments(1)
    variables = random_variables(block, *args)
    np.testing.assert_array_equal(
        jax.jit(block.apply)(variables, *args), plain(block, variables, *args)
    )


def test_blocks_that_the_kernel_does_not_compute():
    def fits(queries=64, dim=120, heads=6, keys=192, dtype=jnp.bfloat16):
        return block_tpu.fits(jnp.zeros((heads, queries, keys)), dim, dtype)

    assert fits() and fits(queries=192) and fits(dim=16, heads=1, dtype=jnp.float32)
    assert not fits(queries=16, keys=48)
    assert not fits(dim=180)
    assert not fits(dtype=jnp.float16)


@pytest.mark.parametrize("attention", ["cudnn", ""])
def test_unknown_attention_is_an_error(attention):
    with pytest.raises(ValueError, match=r"must be 'auto' or 'plain'"):
        window_refinement.check_attention(attention)
