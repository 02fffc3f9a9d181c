import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jaxvsr.layers.windows import partition
from jaxvsr.models.iiavsr import neighbours
from jaxvsr.models.miavsr import MIABlock
from jaxvsr.weights.iiavsr import IIAVSR as RULES
from jaxvsr.weights.rules import take_over

WINDOW = (3, 8, 8)


def run_block(block, params, u):
    """Three successive calls: outputs, masks and kept shares of each step."""
    outputs, sown = [], []
    state = MIABlock.initial_state(u[0][:, 2], WINDOW)
    for t, clip in enumerate(u):
        variables, cond = {"params": params}, neighbours(clip[:, :2], WINDOW, block.dtype)
        (y, state), aux = block.apply(
            variables, clip[:, 2], cond, state, jnp.array(t == 0), mutable="aux"
        )
        outputs.append(y)
        sown.append(aux["aux"])
    return outputs, sown


@pytest.mark.parametrize("shifted", [0, 1])
@pytest.mark.parametrize("size", ["16x24", "18x21"])
def test_block_golden(shifted, size):
    manifest, tensors, arrays = reference.load("op_mia_block")
    name = f"b{shifted}"
    own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(name)}
    key = f"{name}/{size}"
    u0 = jnp.asarray(tensors[f"u0_{size}"])
    u1 = u0 + tensors[f"du1_{size}"]
    u = (u0, u1, u1 + tensors[f"du2_{size}"])
    hard, soft = (
        MIABlock(3, WINDOW, bool(shifted), 2.0, 0.0, train, jnp.float32) for train in (False, True)
    )
    state = MIABlock.initial_state(u0[:, 2], WINDOW)
    cond = neighbours(u0[:, :2], WINDOW, jnp.float32)
    example = (u0[:, 2], cond, state, jnp.array(True))
    expected = jax.eval_shape(hard.init, jax.random.key(0), *example)["params"]
    params = take_over(expected, RULES, own, reference.torch_kernel)

    outputs, sown = jax.jit(lambda p, u: run_block(hard, p, u))(params, u)
    shift = (0, 4, 4) if shifted else (0, 0, 0)
    for t in range(3):
        reference.assert_frames(outputs[t], manifest, arrays, f"{key}/eval{t}", 1e-5)
        if t:
            mask = partition(sown[t]["mask"][0][:, None, ..., None], (1, 8, 8), shift)[0, ..., 0]
            kept = arrays[f"{key}/mask{t}"]
            inside = partition(jnp.ones((1, 1, *u0.shape[2:4], 1)), (1, 8, 8), shift)[0, ..., 0]
            np.testing.assert_array_equal(mask, kept * np.asarray(inside))
            assert float(sown[t]["keep_ratio"][0]) == pytest.approx(arrays[f"{key}/kept{t}"])

    def loss(params, u):
        outputs, sown = run_block(soft, params, u)
        total = 20 * (sown[1]["keep_ratio"][0] + sown[2]["keep_ratio"][0])
        for t, y in enumerate(outputs):
            r = reference.direction(f"{key}/train{t}", y.shape, manifest["salt"])
            total += (y * r).sum()
        return total

    value, (dparams, du) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, u)
    assert float(value) == pytest.approx(float(arrays[f"{key}/train_loss"]), rel=1e-4)
    prefix = f"{key}/grad"
    reference.assert_gradients(
        dparams,
        lambda place: f"{name}.{RULES.official_name(place)}",
        manifest,
        arrays,
        1e-3,
        prefix=prefix,
    )
    for t, gradient in enumerate(np.asarray(du, np.float64)):
        norm, dot = (arrays[f"{prefix}/{what}/u{t}_{size}"] for what in ("norm", "dot"))
        r = reference.direction(f"u{t}_{size}", gradient.shape, manifest["salt"])
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=1e-3)
        assert (gradient * r).sum() == pytest.approx(dot, abs=3e-3 * norm)
