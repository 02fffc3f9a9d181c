import argparse
import re

import jax
import numpy as np
import pytest
import reference

from jaxvsr import weights
from jaxvsr.errors import InputError
from jaxvsr.weights.wrappers import unwrap

FIELDS = {"dim": 16, "depth": 2}


@pytest.fixture(scope="module")
def tensors():
    return reference.load("train_basicvsr")[1]


def as_mmediting(name):
    """What MMEditing calls a tensor of BasicSR's BasicVSR."""
    name = re.sub(
        r"(spynet.*)basic_module\.(\d)\.(weight|bias)$",
        lambda m: f"{m[1]}basic_module.{int(m[2]) // 2}.conv.{m[3]}",
        name,
    )
    name = re.sub(r"^(backward|forward)_trunk", r"\1_resblocks", name)
    return "generator." + re.sub(r"^upconv(\d)", r"upsample\1.upsample_conv", name)


def test_weights_of_mmediting_are_those_of_basicsr(tensors):
    others = {as_mmediting(name): x for name, x in tensors.items()}
    assert "generator.spynet.basic_module.5.basic_module.4.conv.weight" in others
    assert "generator.upsample1.upsample_conv.bias" in others
    others |= {"step_counter": np.zeros(1), "generator.spynet.mean": np.zeros((1, 3, 1, 1))}
    expected = weights.from_torch("basicvsr", tensors, **FIELDS)
    actual = weights.from_torch("basicvsr", others, **FIELDS)
    assert jax.tree.all(jax.tree.map(np.array_equal, actual, expected))


def test_the_wrapper_of_parallel_training_is_taken_off(tensors):
    wrapped = {f"module.{name}": x for name, x in tensors.items()}
    assert unwrap(wrapped).keys() == tensors.keys()
    assert unwrap({"module.generator.a": 1, "module.step_counter": 2}) == {"a": 1}
    # A layer may be called so.
    assert unwrap({"module.a": 1, "b": 2}) == {"module.a": 1, "b": 2}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: {f"_orig_mod.{k}": x for k, x in t.items()},
        lambda t: {f"module._orig_mod.{k}": x for k, x in t.items()},
        lambda t: {f"_orig_mod.module.{k}": x for k, x in t.items()},
        lambda t: {f"net_g.{k}": x for k, x in t.items()},
        lambda t: {f"model.{k}": x for k, x in t.items()} | {"epoch": np.ones(())},
        lambda t: {f"model.module.net.{k}": x for k, x in t.items()},
        lambda t: {k.replace(".", "._orig_mod.", 1): x for k, x in t.items()},
        lambda t: {
            "module." + as_mmediting(k).replace(".", ".module.", 1): x for k, x in t.items()
        },
        lambda t: {"state_dict": {f"model.{k}": x for k, x in t.items()}, "epoch": 3},
        lambda t: {"model": {"params": t}, "optimizer": {"state": {0: {"exp_avg": np.ones(2)}}}},
        lambda t: {"weird": t, "optimizer": {"a": np.ones(2)}, "args": argparse.Namespace(a=1)},
        lambda t: {"module.n_averaged": np.ones(())} | {f"module.{k}": x for k, x in t.items()},
    ],
)
def test_wrappers_are_taken_off_in_any_order(tensors, wrap):
    assert unwrap(wrap(tensors)).keys() == tensors.keys()


def test_a_moving_average_is_preferred_and_said():
    both = {"generator.a": 1, "generator_ema.a": 2, "discriminator.b": 3, "step_counter": 4}
    said = []
    assert unwrap(both, said.append) == {"a": 2}
    assert said == ["taking the weights 'generator_ema'; the file also holds generator"]
    assert unwrap({f"module.{k}": x for k, x in both.items()}) == {"a": 2}
    array = np.ones(2)
    assert unwrap({"params": {"a": 0 * array}, "params_ema": {"a": array}})["a"] is array
    assert unwrap({"generator": {"a": 0 * array}, "generator_ema": {"a": array}})["a"] is array


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({0: np.ones(2)}, "has 0 as the name of a tensor"),
        (
            {"a": {"x": np.ones(2)}, "b": {"x": np.ones(2)}},
            "several sets of weights: a, b; name one",
        ),
        ({"_orig_mod.a": 1, "a": 2}, "two tensors are named 'a'"),
    ],
)
def test_what_is_ambiguous_is_refused(tensors, message):
    with pytest.raises(InputError, match=message):
        unwrap(tensors)


def test_a_set_that_contains_itself_ends():
    loop = {}
    loop |= {"a": loop, "b": loop}
    assert unwrap(loop) == {}


def test_tensors_of_pytorch_are_taken(tensors):
    torch = pytest.importorskip("torch")
    given = {k: torch.nn.Parameter(torch.tensor(x)) for k, x in tensors.items()}
    actual = weights.from_torch("basicvsr", given, **FIELDS)
    expected = weights.from_torch("basicvsr", tensors, **FIELDS)
    assert jax.tree.all(jax.tree.map(np.array_equal, actual, expected))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_values_that_are_not_finite_are_refused_by_name(tensors, value):
    bad = np.array(tensors["fusion.bias"], np.float64)
    bad[1] = value
    with pytest.raises(InputError, match="NaN or infinity in fusion.bias: .* damaged"):
        weights.from_torch("basicvsr", tensors | {"fusion.bias": bad}, **FIELDS)


def test_what_mindspore_keeps_of_a_training_is_passed_over():
    state = {"moment1.conv.weight": 0, "learning_rate": 0, "beta1_power": 0, "global_step": 0}
    assert unwrap({"conv.weight": 1, **state}) == {"conv.weight": 1}


def test_spynet_of_mmediting_alone():
    _, tensors, _ = reference.load("op_spynet")
    others = {
        as_mmediting(f"spynet.{k}").removeprefix("generator.spynet."): x for k, x in tensors.items()
    }
    assert others.keys() != tensors.keys()
    jax.tree.map(
        np.testing.assert_array_equal,
        weights.spynet_from_torch(others),
        weights.spynet_from_torch(tensors),
    )


def test_edvr_alone():
    _, tensors, _ = reference.load("iconvsr_tiny")
    fields = {"dim": 16, "depth": 2, "keyframe_stride": 3}
    expected = weights.from_torch("iconvsr", tensors, **fields)["params"]["edvr"]
    alone = {k.removeprefix("edvr."): x for k, x in tensors.items() if k.startswith("edvr.")}
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), expected)
    found = weights.edvr_from_torch({"params": alone}, shapes)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    del alone["conv_first.weight"]
    with pytest.raises(InputError, match=r"missing: edvr\.conv_first\.weight"):
        weights.edvr_from_torch(alone, shapes)


def test_a_long_list_is_cut_short(tensors):
    with pytest.raises(
        InputError, match=r"missing: (\S+ \(for \S+\)(, )?){5} and 11 more\n"
    ) as error:
        few = {
            k: x for k, x in tensors.items() if not k.startswith(("backward", "fusion", "conv_"))
        }
        weights.from_torch("basicvsr", few | {"a": np.zeros(1)}, **FIELDS)
    assert len(str(error.value)) < 800
