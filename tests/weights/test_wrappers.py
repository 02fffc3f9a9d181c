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
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_the_wrapper_of_parallel_training_is_taken_off(tensors):
    wrapped = {f"module.{name}": x for name, x in tensors.items()}
    assert unwrap(wrapped).keys() == tensors.keys()
    assert unwrap({"module.generator.a": 1, "module.step_counter": 2}) == {"a": 1}
    # A layer may be called so.
    assert unwrap({"module.a": 1, "b": 2}) == {"module.a": 1, "b": 2}


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


def test_a_long_list_is_cut_short(tensors):
    with pytest.raises(
        InputError, match=r"missing: (\S+ \(for \S+\)(, )?){5} and 11 more\n"
    ) as error:
        few = {
            k: x for k, x in tensors.items() if not k.startswith(("backward", "fusion", "conv_"))
        }
        weights.from_torch("basicvsr", few | {"a": np.zeros(1)}, **FIELDS)
    assert len(str(error.value)) < 800
