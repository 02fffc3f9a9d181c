import functools

import jax
import jax.numpy as jnp
import jaxprs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvsr.layers.gating import MaskPredictor, compute_kept, gate

SIZES = [(1, 4), (3, 16), (19, 6), (40, 16)]  # windows and their tokens


def compute(weights, inputs, rows=None):
    """A stand-in for a block: each token attends to its whole window."""
    x, key = inputs
    queries = x if rows is None else jnp.take_along_axis(x, rows[..., None], axis=1)
    return queries + key[:, None, None], jax.nn.softmax(queries @ jnp.swapaxes(x, 1, 2)) @ x


@functools.cache
def example(n, tokens):
    keys = jax.random.split(jax.random.key(n), 4)
    inputs = jax.random.normal(keys[0], (n, tokens, 3)), jnp.arange(float(n))
    old = tuple(jax.random.normal(key, (n, tokens, 3)) for key in keys[1:3])
    return inputs, old


gated = functools.partial(compute_kept, compute, {})


@jax.jit
def dense(inputs, mask, old):
    new = compute({}, inputs)
    return jax.tree.map(
        lambda new, old: gate(mask[..., None].astype(new.dtype), new, old), new, old
    )


@st.composite
def masks(draw):
    n, tokens = draw(st.sampled_from(SIZES))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    # Fractions of windows and of tokens are drawn separately, so that every bucket occurs.
    some = rng.random((n, 1)) < draw(st.sampled_from([0, 0.2, 0.7, 1]))
    share = rng.choice([0.05, 0.3, 0.6, 1], (n, 1))
    return some & (rng.random((n, tokens)) < share)


def assert_equals_the_dense_form(mask):
    inputs, old = example(*mask.shape)
    same, expected = gated(inputs, mask, old), dense(inputs, mask, old)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), same, expected
    )


@settings(deadline=None, max_examples=40, derandomize=True)
@given(masks())
def test_kept_tokens_are_computed_and_others_keep_their_value(mask):
    assert_equals_the_dense_form(mask)


@pytest.mark.parametrize("size", SIZES)
def test_all_none_one_and_the_last_token(size):
    one = np.zeros(size, bool)
    one[size[0] // 2, 1] = True
    last = np.zeros(size, bool)
    last[-1, -1] = True
    for mask in (np.ones(size, bool), np.zeros(size, bool), one, last):
        assert_equals_the_dense_form(mask)


def test_only_the_buckets_are_computed():
    calls = []

    def counted(weights, inputs, rows):
        r = inputs[0].shape[1] if rows is None else rows.shape[1]
        jax.debug.callback(lambda _: calls.append(r), inputs[1])
        return compute(weights, inputs, rows)

    run = functools.partial(compute_kept, counted, {})
    n, tokens = 40, 16
    inputs, old = example(n, tokens)
    for kept, expected in [
        ([], []),
        ([1], [4]),
        ([4] * 9, [4, 4]),
        ([8] * 8 + [5] + [0] * 20, [8, 8]),
        ([16, 3], [4, 16]),
        ([16] * 40, [16] * 5),
    ]:
        mask = np.arange(tokens) < np.pad(kept, (0, n - len(kept)))[:, None]
        calls.clear()
        jax.block_until_ready(run(inputs, mask, old))
        jax.effects_barrier()
        assert calls == expected, kept


def test_it_can_be_mapped_over():
    inputs, old = example(19, 6)
    both = np.random.default_rng(0).random((2, 19, 6)) < np.float32([0.2, 0.9])[:, None, None]
    mapped = jax.jit(jax.vmap(lambda mask: compute_kept(compute, {}, inputs, mask, old)))(both)
    for i, mask in enumerate(both):
        np.testing.assert_allclose(mapped[1][i], gated(inputs, mask, old)[1], rtol=1e-6)


CHANGE = jnp.abs(jax.random.normal(jax.random.key(0), (2, 6, 16, 3)))


def predict(**fields):
    train = fields.pop("train", False)
    predictor = MaskPredictor(train, **fields)
    variables = {
        "params": {"linear": {"kernel": jnp.float32([[1], [-2], [0.5]]), "bias": jnp.zeros(1)}}
    }
    return np.asarray(predictor.apply(variables, CHANGE))[..., 0]


LOGIT = np.asarray(CHANGE @ jnp.float32([1, -2, 0.5]))


def test_a_predictor_starts_as_a_detector_of_change():
    predictor = MaskPredictor(train=False, initial_threshold=0.25)
    change = jnp.float32([0, 0.2, 0.24, 0.26, 3])[None, None, :, None] * jnp.float32([1.5, 0.5])
    mask, _ = predictor.init_with_output(jax.random.key(0), change)
    np.testing.assert_array_equal(mask[0, 0, :, 0], [0, 0, 0, 1, 1])
    official = MaskPredictor(train=False).init(jax.random.key(0), change)["params"]["linear"]
    assert np.abs(official["kernel"]).max() < 0.1 and not official["bias"].any()


def test_a_threshold_counts_outside_training_alone():
    np.testing.assert_array_equal(predict(), LOGIT >= 0)
    np.testing.assert_array_equal(predict(threshold=0.7), LOGIT >= 0.7)
    np.testing.assert_array_equal(predict(threshold=0.7, train=True), LOGIT >= 0)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_share_keeps_the_highest_logits_of_each_clip(share, train):
    mask = predict(keep_share=share, train=train)
    for clip, logit in zip(mask, LOGIT, strict=True):
        assert clip.mean() == pytest.approx(share)
        assert logit[clip == 0].max(initial=-np.inf) < logit[clip == 1].min()


def test_masks_by_window():
    mask = predict(by_window=True)
    np.testing.assert_array_equal(
        mask, np.broadcast_to(LOGIT.mean(2, keepdims=True) >= 0, mask.shape)
    )
    half = predict(by_window=True, keep_share=0.5)
    np.testing.assert_array_equal(half.sum((1, 2)), [48, 48])


def test_training_gives_the_gradient_of_the_relaxed_mask():
    def total(kernel):
        variables = {"params": {"linear": {"kernel": kernel, "bias": jnp.zeros(1)}}}
        return MaskPredictor(True).apply(variables, CHANGE).sum()

    kernel = jnp.float32([[1], [-2], [0.5]])
    soft = jax.nn.sigmoid(LOGIT / (2 / 3))
    expected = ((soft * (1 - soft) * 1.5)[..., None] * CHANGE).sum((0, 1, 2))
    np.testing.assert_allclose(jax.grad(total)(kernel)[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("fields", [{}, {"keep_share": 0.3}, {"by_window": True}])
@pytest.mark.parametrize("train", [False, True])
def test_logits_are_full_float32_on_every_device(dtype, fields, train):
    predictor = MaskPredictor(train=train, **fields)
    change = jnp.ones((1, 4, 16, 8), dtype)
    variables = predictor.init(jax.random.key(0), change)
    (product,) = jaxprs.products(predictor.apply, variables, change)
    assert jaxprs.is_exact(product)
