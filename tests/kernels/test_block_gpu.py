"""The GPU's kernel of the window block, interpreted, against the plain form."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from window_blocks import BARS, DIM, WINDOW, arguments, make, random_variables

from jaxvsr.kernels import block_gpu, change_gpu
from jaxvsr.layers import window_refinement
from jaxvsr.layers.patch_aligned_recurrence import PropagationCell, propagate
from jaxvsr.models import iiavsr
from jaxvsr.models.iiavsr import IIABlock
from jaxvsr.models.miavsr import MIABlock, initial_memory
from jaxvsr.models.psrt import PSRTBlock

SIZE = (12, 21)  # 6 windows of 4 kinds, and padding
# Programs that run once.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture
def on_gpu(monkeypatch):
    """Computes the branch for GPUs, in float32 too."""
    for module, name in ((block_gpu, "refine"), (change_gpu, "measure")):
        interpreted = functools.partial(getattr(module, name), interpret=True)
        monkeypatch.setattr(module, name, interpreted)
        monkeypatch.setattr(module, "fits", lambda *args: True)
    monkeypatch.setattr(window_refinement, "is_target", lambda: True)
    # The kernels' own is tested below: with the exact one the bars are those of rounding.
    exact = functools.partial(jax.nn.gelu, approximate=False)
    monkeypatch.setattr(block_gpu, "gelu", lambda x, tanh: exact(x))

    def on_cuda(*args, default, cuda=None, **others):
        return (cuda or default)(*args)

    monkeypatch.setattr(jax.lax, "platform_dependent", on_cuda)


def plain(block, *args):
    return jit(block.clone(attention="plain").apply)(*args)


@pytest.mark.parametrize(
    ("block", "shifted", "dtype"),
    [
        pytest.param(IIABlock, False, "bfloat16", marks=pytest.mark.slow),
        (PSRTBlock, True, "float32"),
    ],
)
def test_the_kernel_equals_the_plain_form(on_gpu, block, shifted, dtype):
    block = make(block, shifted=shifted, dtype=jnp.dtype(dtype))
    args = arguments(SIZE, 3 if isinstance(block, PSRTBlock) else 1, dtype)
    variables = random_variables(block, *args)
    expected = plain(block, variables, *args)
    out = jit(block.apply)(variables, *args)
    assert out.dtype == dtype
    assert reference.relative_error(out, expected) < BARS[dtype]


@pytest.mark.parametrize("gating", [pytest.param("dense", marks=pytest.mark.slow), "bucketed"])
def test_masks_keep_the_previous_outputs(on_gpu, gating):
    block = make(MIABlock, gating=gating)
    first, second = (arguments(SIZE, 1, seed=seed) for seed in (0, 1))
    memory = initial_memory(first[0], WINDOW)
    variables = random_variables(block, *first, 0.0, memory)

    def two_frames(block):
        def compute(variables):
            x, state = block.apply(variables, *first, 0.0, memory)
            y, new = block.apply(variables, *second, 0.0, state)
            whole = new.attn[0] + new.hidden[0]  # the first window holds no padding
            return x, y, whole, new.normed

        return jit(compute)

    computed = two_frames(block)
    expected = two_frames(block.clone(attention="plain", gating="dense"))
    for bias in (0.0, 1e9, -1e9):  # some tokens are kept, all, none
        variables["params"]["predictor"]["linear"]["bias"] = np.float32([bias])
        for a, b in zip(computed(variables), expected(variables), strict=True):
            assert reference.relative_error(a, b) < BARS["float32"]


class Branch(nn.Module):
    """Two blocks, applied to each frame."""

    attention: str = "auto"

    @nn.compact
    def __call__(self, feats):
        block = functools.partial(
            IIABlock,
            window_size=WINDOW,
            mlp_ratio=2.0,
            train=False,
            dtype=jnp.float32,
            attention=self.attention,
        )
        cell = PropagationCell(
            make_block=block,
            arrange=iiavsr.arrange,
            query_frames=1,
            current=0,
            window_size=WINDOW,
            depths=(2,),
            num_heads=(2,),
            drop_path=0.0,
            scan_blocks=False,
            dtype=jnp.float32,
            kernels=self.attention == "auto",
            name="branch",
        )
        return propagate(cell, feats, None, reverse=False, unroll=1)


def test_tables_are_computed_once_for_all_frames(on_gpu):
    feats = jax.random.normal(jax.random.key(0), (1, 2, *SIZE, DIM))
    variables, apply = random_variables(Branch(), feats), Branch().apply
    jaxpr = jax.make_jaxpr(apply)(variables, feats)
    (frames,) = (eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan")
    assert "pack_tables" in str(jaxpr)
    assert "pack_tables" not in str(frames)
    out, expected = jit(apply)(variables, feats), plain(Branch(), variables, feats)
    assert reference.relative_error(out, expected) < BARS["float32"]

    def loss(variables):
        return (apply(variables, feats) ** 2).mean()

    gradient = jax.eval_shape(jax.grad(loss), variables)
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, variables)


def tables_of(kinds, dim, queries):
    rng = np.random.default_rng(0)
    hidden, keys = 2 * dim, 192

    def draw(*shape):
        return jnp.asarray(0.3 * rng.normal(size=shape), jnp.float32)

    return block_gpu.BlockTables(
        *(draw(dim, dim), draw(dim), draw(dim, dim), draw(kinds, keys, dim), draw(dim, dim)),
        *(draw(kinds, keys, dim), draw(kinds, 2, queries, keys), draw(dim, dim), draw(dim)),
        *(draw(dim, hidden), draw(hidden), draw(hidden, dim), draw(dim)),
    )


def test_windows_without_a_kept_token_are_not_computed():
    x, neighbors, last = (
        jax.random.normal(jax.random.key(i), (2, 64 * n, DIM)) for i, n in enumerate((1, 2, 1))
    )
    mask = jnp.zeros((2, 64, 1)).at[1, 5].set(1.0)
    gate = block_gpu.Gate(mask, last, None)
    tables = tables_of(1, DIM, 64)._replace(proj=jnp.full((DIM, DIM), jnp.nan))
    kind = jnp.zeros(2, jnp.int32)
    skipping = functools.partial(block_gpu.refine.__wrapped__, skip=True, interpret=True)
    packed = block_gpu.pack(tables, jnp.float32)
    y, added = jit(skipping)(packed, kind, x, neighbors, gate)
    np.testing.assert_array_equal(added[0], last[0])
    np.testing.assert_allclose(y[0], x[0] + last[0], rtol=1e-6)
    kept = np.isnan(np.asarray(y[1])).any(-1)
    np.testing.assert_array_equal(np.flatnonzero(kept), [5])


def test_blocks_that_the_kernel_does_not_compute():
    def fits(queries=64, dim=120, heads=6, keys=192, dtype=jnp.bfloat16):
        return block_gpu.fits(jnp.zeros((heads, queries, keys)), dim, dtype)

    assert fits() and fits(queries=192) and fits(dim=16, heads=1, dtype=jnp.float16)
    assert not fits(queries=16, keys=48)
    assert not fits(dim=180)
    assert not fits(dtype=jnp.float32)


def test_gelu_is_nearly_exact():
    x = jnp.linspace(-20, 20, 4001)
    exact = jax.nn.gelu(x, approximate=False)
    np.testing.assert_allclose(block_gpu.gelu(x, jnp.tanh), exact, atol=3e-5)
