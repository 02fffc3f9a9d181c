import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr.layers.attention import WindowAttention, relative_position_index
from jaxvsr.layers.window_transformer import neighbor_windows
from jaxvsr.models.iiavsr import IIABlock
from jaxvsr.models.psrt import PSRTBlock
from jaxvsr.weights.iiavsr import IIAVSR as RULES
from jaxvsr.weights.rules import take_over

WINDOW = (3, 8, 8)


class CurrentBlock(IIABlock):
    """IIABlock on a clip whose last frame is the current one."""

    @nn.compact
    def __call__(self, x):
        neighbors = neighbor_windows(x[:, :2], WINDOW, self.dtype)
        return IIABlock.__call__(self, x[:, 2:], neighbors)[:, 0]


class AllBlock(PSRTBlock):
    """PSRTBlock on a clip."""

    @nn.compact
    def __call__(self, x):
        return PSRTBlock.__call__(self, x)


def official_name(block):
    return lambda place: f"{block}.{RULES.official_name(place)}"


@pytest.mark.parametrize("kind", ["psrt", "iia"])
@pytest.mark.parametrize("shifted", [0, 1])
def test_block_golden(kind, shifted):
    manifest, tensors, arrays = reference.load("op_window_block")
    block = (AllBlock if kind == "psrt" else CurrentBlock)(
        num_heads=3,
        window_size=WINDOW,
        shifted=bool(shifted),
        mlp_ratio=2.0,
        train=False,
        dtype=jnp.float32,
    )
    name = f"{kind}{shifted}"
    own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(name)}
    x = jnp.zeros((1, 3, 16, 24, 24))
    expected = jax.eval_shape(block.init, jax.random.key(0), x)["params"]
    params = take_over(expected, RULES, own, reference.torch_kernel)

    def loss(params, x, r):
        y = block.apply({"params": params}, x)
        return (y * r).sum(), y

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    for size in ("16x24", "18x21"):
        key, x = f"{name}/{size}", tensors[f"x_{size}"]
        r = reference.direction(key, manifest["cases"][key]["shape"], manifest["salt"])
        (_, y), (dparams, dx) = gradient(params, x, r)
        reference.assert_frames(y, manifest, arrays, key, 1e-5)
        prefix = f"{key}/grad"
        reference.assert_gradients(
            dparams, official_name(name), manifest, arrays, 1e-3, prefix=prefix
        )
        reference.assert_gradients(
            {f"x_{size}": dx}, lambda place: place, manifest, arrays, 1e-3, prefix=prefix
        )


def test_relative_position_index_golden():
    _, _, arrays = reference.load("op_window_block")
    index = relative_position_index(WINDOW)
    np.testing.assert_array_equal(index, arrays["psrt/relative_position_index"])
    np.testing.assert_array_equal(index[:64], arrays["iia/relative_position_index"])


def test_tokens_of_other_regions_have_no_influence():
    attention = WindowAttention(2, (1, 2, 4))
    tokens = jax.random.normal(jax.random.key(0), (1, 1, 8, 8))
    regions = np.int32([[0, 0, 1, 1, 0, 0, 1, 1]])
    variables = attention.init(jax.random.key(1), tokens, regions)
    changed = tokens.at[:, :, regions[0] == 1].set(3.0)
    before = attention.apply(variables, tokens, regions)
    after = attention.apply(variables, changed, regions)
    mine = regions[0] == 0
    np.testing.assert_array_equal(before[:, :, mine], after[:, :, mine])
    assert np.abs(before - after).max() > 1e-3


def test_bfloat16_keeps_the_result_near():
    tokens = jax.random.normal(jax.random.key(0), (1, 2, 192, 24))
    full, half = (WindowAttention(3, WINDOW, dtype) for dtype in (jnp.float32, jnp.bfloat16))
    variables = full.init(jax.random.key(1), tokens)
    out = half.apply(variables, tokens)
    assert out.dtype == jnp.bfloat16
    assert reference.relative_error(out, full.apply(variables, tokens)) < 2e-2
