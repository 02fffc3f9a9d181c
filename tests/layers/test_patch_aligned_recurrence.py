"""The recurrence that PSRT, IIA-VSR and MIA-VSR share."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr.layers.patch_aligned_recurrence import PropagationCell, propagate
from jaxvsr.models import iiavsr


class Block(nn.Module):
    """Adds the mean of the neighbors to the current frame, and counts its calls in its memory."""

    num_heads: int
    shifted: bool

    @nn.compact
    def __call__(self, x, neighbors, drop_path, memory=None):
        x = x + 0.1
        return x if memory is None else (x, memory + 1)


class Branch(nn.Module):
    reverse: bool = False
    scan_blocks: bool = False
    memory: bool = False

    @nn.compact
    def __call__(self, feats, flows):
        cell = PropagationCell(
            make_block=Block,
            arrange=iiavsr.arrange,
            query_frames=1,
            current=0,
            window_size=(3, 4, 4),
            depths=(2, 2),
            num_heads=(1, 1),
            drop_path=0.0,
            scan_blocks=self.scan_blocks,
            dtype=jnp.float32,
            name="branch",
        )
        memory = jnp.zeros((1,)) if self.memory else None
        return propagate(cell, feats, flows, reverse=self.reverse, unroll=1, memory=memory)


@pytest.fixture
def clip():
    rng = np.random.default_rng(0)
    feats = rng.normal(size=(1, 4, 8, 8, 4)).astype(np.float32)
    return jnp.asarray(feats), jnp.asarray(rng.normal(size=(1, 3, 8, 8, 2)).astype(np.float32))


def test_a_reversed_branch_is_the_branch_of_the_reversed_clip(clip):
    feats, flows = clip
    variables = Branch().init(jax.random.key(0), feats, flows)
    forward = Branch().apply(variables, feats, flows)
    backward = Branch(reverse=True).apply(variables, feats[:, ::-1], flows[:, ::-1])
    np.testing.assert_allclose(backward[:, ::-1], forward, rtol=1e-5, atol=1e-6)


def test_loops_over_blocks_change_neither_parameters_nor_numbers(clip):
    variables = Branch().init(jax.random.key(0), *clip)
    plain = Branch().apply(variables, *clip)
    looped = Branch(scan_blocks=True).apply(variables, *clip)
    np.testing.assert_allclose(looped, plain, rtol=1e-5, atol=1e-6)
    remembering = Branch(scan_blocks=True, memory=True).apply(variables, *clip)
    np.testing.assert_allclose(remembering, plain, rtol=1e-5, atol=1e-6)


def test_missing_earlier_frames_are_the_nearest_available_ones():
    current, n1, n2 = (jnp.full((1, 2, 2, 1), value) for value in (1.0, 2.0, 3.0))
    expected = {0: [1, 1, 1], 1: [2, 2, 1], 2: [3, 2, 1]}
    for step, values in expected.items():
        frames = iiavsr.arrange(jnp.int32(step), current, n1, n2)
        assert frames[0, :, 0, 0, 0].tolist() == values
