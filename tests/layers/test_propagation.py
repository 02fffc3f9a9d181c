"""The recurrence over frames, against loops written out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr.layers.propagation import (
    first_order_flows,
    frame_by_frame,
    scan_frames,
    second_order_flows,
)


class Running(nn.Module):
    """Adds up what it has seen, with a scale that is a parameter."""

    @nn.compact
    def __call__(self, carry, step, x):
        scale = self.param("scale", nn.initializers.constant(2.0), ())
        total = carry + scale * x * (step + 1)
        self.sow("aux", "step", step)
        return total, total


class Scan(nn.Module):
    reverse: bool

    @nn.compact
    def __call__(self, x):
        cell = Running(name="cell")
        return scan_frames(cell, jnp.zeros_like(x[:, 0]), x, reverse=self.reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_is_a_loop_over_frames(reverse):
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    (carry, found), aux = Scan(reverse).init_with_output(jax.random.key(0), x)
    order = range(4)[::-1] if reverse else range(4)
    total, expected = np.zeros((2, 3), np.float32), np.zeros_like(x)
    for step, t in enumerate(order):
        total = total + 2 * x[:, t] * (step + 1)
        expected[:, t] = total
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(carry, total, rtol=1e-6)
    (steps,) = aux["aux"]["cell"]["step"]
    assert steps.tolist() == ([3, 2, 1, 0] if reverse else [0, 1, 2, 3])  # in frame order


def test_the_first_frame_of_a_branch_has_no_flow():
    flows = jnp.arange(1.0, 5.0).reshape(1, 2, 1, 1, 2)
    forward, backward = first_order_flows(flows, False), first_order_flows(flows, True)
    assert forward[0, :, 0, 0].tolist() == [[0, 0], [1, 2], [3, 4]]
    assert backward[0, :, 0, 0].tolist() == [[1, 2], [3, 4], [0, 0]]


def test_a_constant_motion_is_twice_as_far_over_two_frames():
    flows = jnp.broadcast_to(jnp.array([2.0, -1.0]), (1, 3, 8, 8, 2))
    flow_n1, flow_n2 = second_order_flows(flows, False)
    np.testing.assert_allclose(flow_n1[0, 3, 4, 4], [2, -1])
    np.testing.assert_allclose(flow_n2[0, 3, 4, 4], [4, -2], rtol=1e-6)


class Frames(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return frame_by_frame(nn.Conv(4, (3, 3), name="conv"), x, train)


def test_frames_are_independent_one_by_one_or_all_at_once():
    x = jax.random.normal(jax.random.key(0), (2, 3, 6, 5, 2))
    model = Frames()
    variables = model.init(jax.random.key(0), x, True)
    together, alone = (model.apply(variables, x, train) for train in (True, False))
    assert together.shape == (2, 3, 6, 5, 4)
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)
