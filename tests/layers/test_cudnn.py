"""Attention by cuDNN against the plain form; XLA's attention stands in for cuDNN's kernel."""

import functools

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr.kernels import switch
from jaxvsr.layers import attention, cudnn, window_transformer
from jaxvsr.layers.blocks import Dense
from jaxvsr.layers.window_transformer import make_windows, neighbor_windows
from jaxvsr.layers.windows import shift_regions

HEADS = 2


def numbers(seed, *shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def dense(seed, rows, columns):
    return Dense(numbers(seed, rows, columns) * rows**-0.5, numbers(seed + 1, columns))


def assert_same(plain, other, args, dtype):
    """Compares values and gradients of two functions of (weights, tokens, ...)."""
    bar = 1e-4 if dtype == jnp.float32 else 5e-2
    direction = numbers(9, *jax.eval_shape(plain, *args).shape)

    def loss(function, *args):
        out = function(*args)
        return (out.astype(jnp.float32) * direction).sum(), out

    grads = [
        jax.jit(jax.value_and_grad(functools.partial(loss, function), (0, 1), has_aux=True))(*args)
        for function in (plain, other)
    ]
    flat = [jax.tree_util.tree_leaves_with_path(each) for each in grads]
    assert len(flat[0]) > 4
    for (path, expected), (_, got) in zip(*flat, strict=True):
        if jnp.ndim(expected) and jnp.abs(expected).max() > 1e-3:
            assert reference.relative_error(got, expected) < bar, path


@pytest.mark.parametrize(
    ("depth", "mutual", "shifted", "dtype"),
    [
        (6, True, True, jnp.float32),
        pytest.param(6, True, True, jnp.bfloat16, marks=pytest.mark.slow),
        pytest.param(8, False, True, jnp.float32, marks=pytest.mark.slow),
        pytest.param(8, False, False, jnp.float32, marks=pytest.mark.slow),
    ],
)
def test_windows_of_vrt(depth, mutual, shifted, dtype):
    size, window, dim = (4, 8, 12), (2, 4, 4), HEADS * depth
    regions = shift_regions(size, window, (1, 2, 2)) if shifted else None
    weights = attention.WindowWeights(
        dense(0, dim, 3 * dim),
        numbers(2, HEADS, 32, 32),
        dense(3, (1 + mutual) * dim, dim),
        dense(5, dim, 3 * dim) if mutual else None,
    )
    tokens, placed = (numbers(seed, 2, 12, 32, dim, dtype=dtype) for seed in (7, 8))
    plain = functools.partial(attention.attend_in_windows, regions=regions)
    other = functools.partial(attention.attend_by_cudnn, regions=regions, implementation="xla")
    assert_same(plain, other, (weights, tokens, placed if mutual else None), dtype)


@pytest.mark.parametrize(
    ("queries", "folded", "dtype"),
    [
        (1, True, jnp.float32),
        pytest.param(3, False, jnp.bfloat16, marks=pytest.mark.slow),
    ],
)
def test_windows_of_recurrences(queries, folded, dtype):
    dim = HEADS * 6
    weights = make_weights(dim, 16 * queries, 48)
    frames = numbers(4, 2, 3, 7, 9, dim, dtype=dtype)

    def form(function, weights, frames):
        windows = ShiftedWindows(queries).apply({}, frames)
        out = function(weights.folded() if folded else weights, windows)
        # Nothing reads what attention makes of padding.
        return jnp.where(windows.inside[:, -out.shape[1] :, None], out, 0)

    other = functools.partial(window_transformer.attention_by_cudnn, implementation="xla")
    plain = functools.partial(form, window_transformer.attention_in_windows)
    assert_same(plain, functools.partial(form, other), (weights, frames), dtype)


class ShiftedWindows(nn.Module):
    """Windows with padding, whose last `queries` of three frames are refined."""

    queries: int

    @nn.compact
    def __call__(self, frames):
        window, dtype = (3, 4, 4), frames.dtype
        others = neighbor_windows(frames[:, :2], window, dtype) if self.queries == 1 else None
        refined = frames[:, -self.queries :]
        return make_windows(
            refined, others, window_size=window, shifted=True, drop_path=0.0, dtype=dtype
        )


def make_weights(dim, queries, keys):
    norm = window_transformer.Norm(1 + numbers(20, dim), numbers(21, dim))
    return window_transformer.BlockWeights(
        norm1=norm,
        qkv=dense(22, dim, 3 * dim),
        bias=numbers(24, HEADS, queries, keys),
        proj=dense(25, dim, dim),
        norm2=norm,
        fc1=dense(27, dim, dim),
        fc2=dense(29, dim, dim),
    )


@pytest.mark.parametrize("size", [(2, 8, 8), (7, 9, 10)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_directions_tell_regions_apart(size, dtype):
    scale, window = 20**-0.5, (2, 4, 4)
    regions = shift_regions(size, window, tuple(side // 2 for side in window))
    vectors = cudnn._directions(jnp.asarray(regions), scale).astype(dtype)
    vectors = np.asarray(vectors, np.float64)
    products = scale * vectors @ vectors.swapaxes(1, 2)
    penalty = products.max(-1, keepdims=True) - products
    same = regions[:, :, None] == regions[:, None, :]
    assert not same.all()
    np.testing.assert_allclose(penalty[same], 0, atol=1e-9)
    assert penalty[~same].min() > 90


def test_takes_16_bits_and_even_windows_where_cudnn_is_available(monkeypatch):
    monkeypatch.setattr(cudnn, "_available", lambda: True)
    assert cudnn.takes(jnp.bfloat16, 9, 64, 192, 20)
    assert cudnn.takes(jnp.float16, 9, 64, 192, 20)
    assert not cudnn.takes(jnp.float32, 9, 64, 192, 20)
    assert not cudnn.takes(jnp.bfloat16, 9, 63, 192, 20)
    assert not cudnn.takes(jnp.bfloat16, 9, 64, 191, 20)
    assert not cudnn.takes(jnp.bfloat16, 9, 64, 192, 128)
    (exported,) = jax.export.symbolic_shape("b")
    assert not cudnn.takes(jnp.bfloat16, exported, 64, 192, 20)
    with monkeypatch.context() as patch:
        patch.setenv(switch.VARIABLE, "off")
        assert not cudnn.takes(jnp.bfloat16, 9, 64, 192, 20)
    monkeypatch.setattr(cudnn, "_available", lambda: False)
    assert not cudnn.takes(jnp.bfloat16, 9, 64, 192, 20)


def test_machines_without_cudnn_take_the_plain_form(monkeypatch):
    def refuse(*args, **how):
        raise RuntimeError("cuDNN is not detected.")

    monkeypatch.setattr(jax.nn, "dot_product_attention", refuse)
    cudnn._available.cache_clear()
    try:
        assert not cudnn.takes(jnp.bfloat16, 9, 64, 192, 20)
    finally:
        cudnn._available.cache_clear()


@pytest.mark.slow
def test_cpu_computes_the_plain_form_where_cudnn_is_available(monkeypatch):
    module = attention.WindowAttention(HEADS, (1, 2, 2), jnp.bfloat16)
    tokens = numbers(0, 1, 3, 4, 12, dtype=jnp.bfloat16)
    params = module.init(jax.random.key(0), tokens)

    def loss(params, tokens):
        outs, _ = jax.lax.scan(lambda x, _: (module.apply(params, x), None), tokens, None, 2)
        return (outs.astype(jnp.float32) ** 2).sum()

    def gradient():
        return jax.jit(jax.value_and_grad(lambda *args: loss(*args))).trace(params, tokens)

    plain = gradient()
    monkeypatch.setattr(cudnn, "takes", lambda *args: True)
    by_xla = functools.partial(attention.attend_by_cudnn, implementation="xla")
    monkeypatch.setattr(attention, "attend_by_cudnn", by_xla)
    both = gradient()
    assert "platform_index" in str(both.jaxpr)
    assert "platform_index" not in str(plain.jaxpr)
    jax.tree.map(
        np.testing.assert_array_equal,
        *(traced.lower().compile()(params, tokens) for traced in (plain, both)),
    )
