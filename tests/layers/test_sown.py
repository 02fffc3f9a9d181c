"""Values that modules sow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr.layers.sown import cost_of_still_tokens

# Two frames, one clip of one window of three tokens, in a block and in a stack of two blocks.
KEPT = jnp.float32([[[[0, 0, 0]]], [[[1, 1, 0]]]])
CHANGE = jnp.float32([[[[9, 9, 9]]], [[[0, 0.1, 0]]]])


def test_kept_tokens_cost_by_how_little_they_changed():
    others = KEPT.at[1].set(1 - KEPT[1])
    stack = {"kept": jnp.stack([KEPT, others], 1), "change": jnp.stack([CHANGE, CHANGE], 1)}
    aux = {"a": {"kept": (KEPT,), "change": (CHANGE,)}, "b": stack}
    of_kept = (1 + np.exp(-1)) / 3
    cost = cost_of_still_tokens(aux, still_change=0.1)
    assert cost == pytest.approx((2 * of_kept + 1 / 3) / 3, rel=1e-6)
    assert cost_of_still_tokens({}, 0.1) == 0
    first = {"kept": KEPT[:1], "change": CHANGE[:1]}
    assert cost_of_still_tokens(first, 0.1) == 0


def test_moving_tokens_have_hardly_any_gradient():
    def cost(kept):
        return cost_of_still_tokens({"kept": kept, "change": change}, still_change=0.1)

    change = jnp.float32([0, 0.05, 0.3]).reshape(1, 1, 1, 3).repeat(2, 0)
    _, later = jax.grad(cost)(jnp.ones((2, 1, 1, 3)))
    still, little, moving = (float(x) for x in later.ravel())
    assert still > little > 1000 * moving > 0
