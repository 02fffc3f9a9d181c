import functools
import time

import jax
import jax.numpy as jnp
import pytest

from jaxvsr import flops

X = jnp.zeros((4, 8))
W = jnp.zeros((8, 16))


def test_matrix_products_and_convolutions():
    assert flops.count(lambda x, w: x @ w, X, W) == 2 * 4 * 8 * 16
    batched = functools.partial(jnp.einsum, "bij,bjk->bik")
    assert flops.count(batched, jnp.zeros((3, 4, 8)), jnp.zeros((3, 8, 16))) == 3 * 2 * 4 * 8 * 16
    image, kernel = jnp.zeros((2, 10, 12, 6)), jnp.zeros((3, 5, 2, 9))

    def conv(image, kernel, groups):
        return jax.lax.conv_general_dilated(
            image,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    grouped = functools.partial(conv, groups=3)
    assert flops.count(grouped, image, kernel) == 2 * (2 * 10 * 12 * 9) * (3 * 5 * 2)


def test_loops_count_as_often_as_they_run_and_branches_once():
    def loop(x, w):
        return jax.lax.scan(lambda c, _: (c, x @ w), 0, None, length=7)[1]

    one = 2 * 4 * 8 * 16
    assert flops.count(jax.jit(loop), X, W) == 7 * one

    def branch(x, w):
        return jax.lax.cond(x.sum() > 0, lambda: x @ w, lambda: (x @ w) @ jnp.zeros((16, 16)))

    assert flops.count(branch, X, W) == one + 2 * 4 * 16 * 16


@pytest.mark.parametrize(("wrap", "products"), [(lambda f: f, 2), (jax.checkpoint, 3)])
def test_what_a_gradient_recomputes_counts_again(wrap, products):
    def loss(w):
        return wrap(lambda w: jnp.tanh(X @ w).sum())(w)

    assert flops.count(jax.grad(loss), W) == products * 2 * 4 * 8 * 16


def test_peak_is_the_data_sheets_or_measured():
    assert flops.data_sheet("NVIDIA H100 80GB HBM3") == 989e12
    assert flops.data_sheet("NVIDIA L4") < flops.data_sheet("NVIDIA L40S")
    if flops.data_sheet(jax.devices()[0].device_kind) is None:
        x = jnp.ones((512, 512))
        product = jax.jit(lambda x: x @ x)
        product(x).block_until_ready()
        start = time.perf_counter()
        product(x).block_until_ready()
        rate = 2 * 512**3 / (time.perf_counter() - start)
        assert 0.1 * rate < flops.peak() < 100 * rate  # other processes may slow either


def test_scopes_divide_the_whole():
    def model(x, w):
        def turn(carry, _):
            with jax.named_scope("inner"):
                return carry, x @ w

        with jax.named_scope("outer"):
            return jax.jit(lambda: jax.lax.scan(turn, 0, None, length=3)[1])(), x @ w

    one = 2 * 4 * 8 * 16
    jaxpr = jax.make_jaxpr(lambda x, w: (model(x, w), x @ w))(X, W)
    assert flops.by_scope(jaxpr) == {"outer/inner": 3 * one, "outer": one, "": one}


def test_the_logs_convention_knows_what_a_loop_carries():
    image, kernel = jnp.zeros((7, 1, 6, 6, 2)), jnp.zeros((3, 3, 2, 5))

    def model(variables, images):
        def turn(total, image):
            scaled = variables["params"] * 2  # done before: what only weights enter
            out = jax.lax.conv_general_dilated(
                image, scaled, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return total + out, ()

        return jax.lax.scan(turn, jnp.zeros((1, 6, 6, 5)), images)[0]

    outputs = 6 * 6 * 5
    convolution, addition = outputs * (2 * 3 * 3 * 2 + 1), outputs
    count = flops.log_convention(model, {"params": kernel}, image)
    assert count == 7 * (convolution + addition)
