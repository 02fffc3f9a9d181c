import jax
import numpy as np
import pytest
import reference

from jaxvsr import weights

FIELDS = {"dim": 24, "depths": (2, 2), "num_heads": (3, 3), "mid_channels": 16}


@pytest.fixture(scope="module")
def tensors():
    return reference.load("miavsr_tiny")[1]


def test_every_tensor_arrives_once(tensors):
    variables = weights.from_torch("miavsr", tensors, **FIELDS)
    dead = reference.load("miavsr_tiny")[0]["unused_parameters"]
    taken = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert len(dead) == 24
    assert taken == sum(v.size for k, v in tensors.items() if k not in dead)
    kernel = variables["params"]["forward_2"]["group_1"]["block_0"]["attn"]["qkv"]["kernel"]
    official = "patch_align.forward_2.layers.1.residual_group.blocks.0.attn.qkv.weight"
    np.testing.assert_array_equal(kernel, tensors[official].T)


def test_buffers_and_dead_layers_may_be_there_or_not(tensors):
    manifest = reference.load("miavsr_tiny")[0]
    alive = {k: v for k, v in tensors.items() if k not in manifest["unused_parameters"]}
    prefix = "patch_align.forward_1.layers.0.residual_group.blocks.0.attn"
    buffers = {
        f"{prefix}.relative_position_index": np.zeros((64, 192), np.int64),
        "spynet.mean": np.zeros((1, 3, 1, 1)),
        "spynet.std": np.ones((1, 3, 1, 1)),
    }
    expected = weights.from_torch("miavsr", tensors, **FIELDS)
    for state_dict in (alive, {**tensors, **buffers}):
        actual = weights.from_torch("miavsr", state_dict, **FIELDS)
        assert jax.tree.all(jax.tree.map(np.array_equal, actual, expected))


def test_what_does_not_fit_is_named(tensors):
    less = {k: v for k, v in tensors.items() if k != "conv_hr.bias"}
    with pytest.raises(ValueError, match=r"missing: conv_hr\.bias \(for head/conv_hr/bias\)"):
        weights.from_torch("miavsr", less, **FIELDS)
    more = {**tensors, "patch_align.backward_3.conv_first.weight": np.zeros(1)}
    with pytest.raises(ValueError, match=r"left over: patch_align\.backward_3"):
        weights.from_torch("miavsr", more, **FIELDS)
    other = {**tensors, "conv_hr.bias": np.zeros(3)}
    with pytest.raises(ValueError, match=r"another shape: conv_hr\.bias \(3,\).*\(64,\)"):
        weights.from_torch("miavsr", other, **FIELDS)
    with pytest.raises(ValueError, match=r"left over: .*predmask"):
        weights.from_torch("iiavsr", tensors, **FIELDS)


def test_names_of_a_tensorflow_checkpoint_do_as_well():
    _, tensors, _ = reference.load("mobile_swrn_tiny")
    value = "/.ATTRIBUTES/VARIABLE_VALUE"
    checkpoint = {f"model/{k}{value}": v for k, v in tensors.items()}
    checkpoint |= {
        f"model/conv_last/bias/.OPTIMIZER_SLOT/optimizer/m{value}": np.zeros(48),
        f"optimizer/iter{value}": np.zeros(()),
        f"save_counter{value}": np.zeros(()),
        "_CHECKPOINTABLE_OBJECT_GRAPH": b"",
    }
    expected, actual = weights.from_tf("swrn", tensors), weights.from_tf("swrn", checkpoint)
    assert jax.tree.all(jax.tree.map(np.array_equal, actual, expected))


def test_a_model_without_a_table_is_refused():
    with pytest.raises(ValueError, match="'swrn'"):
        weights.from_torch("swrn", {})
