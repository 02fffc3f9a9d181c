"""The shared block against its plain form: norm, pad, partition, attend, add."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr.layers.attention import relative_position_index
from jaxvsr.layers.blocks import MLP, layer_norm
from jaxvsr.layers.window_transformer import neighbor_windows
from jaxvsr.layers.windows import inside_frame, merge, partition, shift_regions
from jaxvsr.models.iiavsr import IIABlock
from jaxvsr.models.psrt import PSRTBlock

WINDOW = (3, 8, 8)


class PlainAttention(nn.Module):
    """Attention in windows, with queries from the last `frames` frames."""

    frames: int

    @nn.compact
    def __call__(self, tokens, regions):
        queries, dim, heads = 64 * self.frames, tokens.shape[-1], 2
        q, k, v = jnp.split(nn.Dense(3 * dim, name="qkv")(tokens), 3, axis=-1)
        q, k, v = (x.reshape(*x.shape[:-1], heads, -1) for x in (q, k, v))
        logits = jnp.einsum("bnqhd,bnkhd->bnhqk", q, k)[..., -queries:, :] * (dim // heads) ** -0.5
        rows = (2 + self.frames) * 15 * 15
        table = self.param("relative_position_bias_table", nn.initializers.zeros, (rows, heads))
        logits += table[relative_position_index(WINDOW)[:queries]].transpose(2, 0, 1)
        if regions is not None:
            apart = regions[:, -queries:, None] != regions[:, None, :]
            logits -= 100 * apart[:, None]
        out = jnp.einsum("bnhqk,bnkhd->bnqhd", nn.softmax(logits), v)
        return nn.Dense(dim, name="proj")(out.reshape(*out.shape[:3], dim))


class PlainBlock(nn.Module):
    """The paper's block on a clip (b, 3, h, w, c) whose last `frames` frames are refined."""

    frames: int
    shifted: bool

    @nn.compact
    def __call__(self, clip):
        size, frames = clip.shape[1:4], self.frames
        shift = (0, 4, 4) if self.shifted else (0, 0, 0)
        regions = shift_regions(size, WINDOW, shift) if self.shifted else None
        tokens = partition(layer_norm(clip, name="norm1"), WINDOW, shift)
        attn = PlainAttention(frames, name="attn")(tokens, regions)
        cut = (frames, *size[1:]), (frames, 8, 8), shift
        x = clip[:, 3 - frames :] + merge(attn, *cut)
        return x + MLP(2.0, name="mlp")(layer_norm(x, name="norm2"))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("frames", [1, 3])
def test_block_equals_the_plain_form(frames, shifted):
    clip = 3 + 2 * jax.random.normal(jax.random.key(0), (2, 3, 13, 21, 12))
    plain = PlainBlock(frames, shifted)
    shapes = jax.eval_shape(plain.init, jax.random.key(1), clip)
    rng = np.random.default_rng(2)
    variables = jax.tree.map(lambda leaf: np.float32(0.3 * rng.normal(size=leaf.shape)), shapes)
    expected = jax.jit(plain.apply)(variables, clip)
    make = PSRTBlock if frames == 3 else IIABlock
    x, cond = (
        (clip, None)
        if frames == 3
        else (clip[:, 2:], neighbor_windows(clip[:, :2], WINDOW, "float32"))
    )
    for train in (False, True):  # in chunks with folded weights, and as a whole
        block = make(
            num_heads=2,
            window_size=WINDOW,
            shifted=shifted,
            mlp_ratio=2.0,
            train=train,
            dtype=jnp.float32,
        )
        out = jax.jit(block.apply)(variables, x, cond)
        assert reference.relative_error(out.reshape(expected.shape), expected) < 2e-6


def test_inside_frame_excludes_the_padding():
    for size, shift in (((1, 13, 21), (0, 4, 4)), ((3, 16, 24), (0, 0, 0)), ((3, 9, 8), (0, 4, 4))):
        window = (size[0], 8, 8)
        expected = partition(jnp.ones((1, *size, 1)), window, shift)[0, ..., 0]
        np.testing.assert_array_equal(inside_frame(size, window, shift), expected)
