import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr.layers.attention import sine_position
from jaxvsr.layers.transformer import BlockGroup, WindowBlock

SIZE = (1, 3, 5, 6, 8)


@pytest.fixture(scope="module")
def group():
    """Five blocks, of which four are done in a loop, their random weights, a clip."""
    module = BlockGroup(2, (2, 4, 4), (0.0,) * 5, mutual=True)
    x = jax.random.normal(jax.random.key(0), SIZE)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    rng = np.random.default_rng(1)
    return (
        module,
        jax.tree.map(lambda leaf: np.float32(0.3 * rng.normal(size=leaf.shape)), shapes),
        x,
    )


def test_the_loop_does_what_its_blocks_do(group):
    module, variables, x = group

    @jax.jit
    def in_turn(variables, x):
        for i in range(5):
            block = WindowBlock(2, (2, 4, 4), shifted=i % 2 == 1, mutual=True)
            x = block.apply({"params": variables["params"][f"block_{i}"]}, x)
        return x

    expected, actual = (jax.jit(f)(variables, x) for f in (in_turn, module.apply))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_drop_path_in_the_loop_takes_clips_whole_and_rises_with_the_blocks(group):
    module, variables, x = group
    x = jnp.broadcast_to(x, (64, *x.shape[1:]))
    apply = jax.jit(module.clone(drop_path=(0.0, 0.0, 0.0, 0.5, 0.0)).apply)
    rngs = [{"droppath": jax.random.key(seed)} for seed in (0, 0, 1)]
    first, again, other = (np.asarray(apply(variables, x, rngs=rng)) for rng in rngs)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    # Attention and MLP of one block, each there or not.
    kinds = {clip.round(2).tobytes() for clip in first}
    assert len(kinds) == 4


@pytest.fixture(scope="module", params=[False, True], ids=["self", "mutual"])
def padded(request):
    """A shifted block, random weights, and clips that are no whole windows along any axis."""
    block = WindowBlock(2, (2, 4, 4), shifted=True, mutual=request.param)
    x = jax.random.normal(jax.random.key(0), (2, 3, 10, 13, 8))
    shapes = jax.eval_shape(block.init, jax.random.key(0), x)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: np.float32(0.3 * rng.normal(size=leaf.shape)), shapes)
    return block, variables, x


def test_chunks_of_windows_give_the_result_of_all_windows_at_once(padded):
    block, variables, x = padded
    rngs = {"droppath": jax.random.key(3)}
    whole, chunked = (
        jax.jit(block.clone(train=train).apply)(variables, x, 0.5, rngs=rngs)
        for train in (True, False)
    )
    np.testing.assert_allclose(chunked, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("platform", "train", "loops"),
    [("cpu", False, True), ("tpu", False, True), ("cuda", False, False), ("tpu", True, False)],
)
def test_inference_on_cpus_and_tpus_computes_chunks_of_windows(padded, platform, train, loops):
    block, variables, x = padded
    program = jax.jit(block.clone(train=train).apply).trace(variables, x)
    text = program.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.while" in text) == loops


def test_sine_position_is_that_of_the_paper():
    code = sine_position(3, 5, 8).reshape(3, 5, 8)
    y, x = 2 * np.pi * np.array([2, 4]) / (np.array([3, 5]) + 1e-6)
    expected = [
        f(place / period) for place in (y, x) for period in (1, 100) for f in (np.sin, np.cos)
    ]
    np.testing.assert_allclose(code[1, 3], expected, atol=1e-6)
