import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from configs.mobile_rows import ROWS
from jaxvsr import models, weights
from jaxvsr.training.losses import charbonnier
from jaxvsr.weights.mobile import numbered
from jaxvsr.weights.rules import places

CASES = {"mobile_fani_tiny": "MVSR_13", "mobile_mvsr10_tiny": "MVSR_10"}


@functools.cache
def official(case):
    manifest, tensors, arrays = reference.load(case)
    name, fields = ROWS[CASES[case]]
    variables = weights.from_tf(name, tensors, **fields)
    lq = jnp.asarray(arrays["lq"] / np.float32(255))
    lq = lq if lq.ndim == 5 else lq[None]
    return models.create(name, **fields), variables, manifest, arrays, lq


def unstacked(value, arrays):
    """Without the axis of clips where the case has none."""
    return np.asarray(value if arrays["lq"].ndim == 5 else value[0])


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    model, variables, manifest, arrays, lq = official(case)
    run = jax.jit(functools.partial(model.apply, mutable=["intermediates"]))
    sr, sown = run(variables, lq)
    sown = {key: value[0] for key, value in sown["intermediates"]["align"].items()}
    reference.assert_frames(255 * unstacked(sr, arrays), manifest, arrays, "sr", 1e-5)
    logits = unstacked(sown["logits"], arrays)
    assert reference.relative_error(logits, arrays["attention_logits"]) < 1e-4
    weights = unstacked(jax.nn.softmax(sown["logits"]), arrays)
    assert reference.relative_error(weights, arrays["attention"]) < 1e-4
    reference.assert_frames(unstacked(sown["aligned"], arrays), manifest, arrays, "aligned", 1e-4)
    h0, h1, w0, w1 = manifest["cases"]["sr"]["window"]
    window = 255 * unstacked(sr, arrays)[..., h0:h1, w0:w1, :]
    np.testing.assert_allclose(window, arrays["sr/crop"], atol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_training_golden(case):
    model, variables, manifest, arrays, lq = official(case)
    gt = 255 * lq.repeat(4, axis=2).repeat(4, axis=3)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def gradient(params):
        whole = {**variables, "params": params}
        sr, moved = model.apply(whole, lq, train=True, mutable=["batch_stats"])
        return charbonnier(255 * sr, gt, eps=1e-6).mean(0).sum(), (255 * sr, moved)

    (loss, (sr, moved)), gradients = gradient(variables["params"])
    assert float(loss) == pytest.approx(float(arrays["train/loss"]), rel=1e-5)
    reference.assert_frames(unstacked(sr, arrays), manifest, arrays, "train/sr", 1e-4)
    rules = numbered(places(variables), manifest["tensors"])
    # Normalization cancels some biases: their gradients are rounding errors alone.
    flat = flax.traverse_util.flatten_dict(gradients, sep="/")
    noise = manifest["roundoff_gradients"]
    compared = {k: v for k, v in flat.items() if rules.official_name(k) not in noise}
    assert len(compared) == len(flat) - len(noise)
    reference.assert_gradients(
        compared, rules.official_name, manifest, arrays, 1e-3, kernel=lambda x: x
    )
    for path, leaf in jax.tree_util.tree_leaves_with_path(moved["batch_stats"]):
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        name = rules.official_name(f"batch_stats/{place}")
        assert reference.relative_error(leaf, arrays[f"train/after/{name}"]) < 1e-5, place
