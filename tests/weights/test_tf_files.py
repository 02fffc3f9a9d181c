import sys

import jax
import numpy as np
import pytest
import reference

from jaxvsr import weights
from jaxvsr.errors import InputError
from jaxvsr.weights.tf_files import read_tf

CASES = {"swrn": "mobile_swrn_tiny", "mobile_rrn": "mobile_rrn_tiny", "fani": "mobile_fani_tiny"}


def assert_same(name, tensors, path):
    expected, actual = weights.from_tf(name, tensors), weights.from_tf(name, read_tf(path))
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def in_files(tensors, manifest):
    """The variables of FANI under the numbers that files give its layers."""
    places = manifest["paths"]  # in the order of the model's layers
    layers = list(dict.fromkeys(place.rpartition("/")[0] for place in places.values()))
    # Norms stand where they are run; the table lists them after the layer before them.
    return {
        f"layer_with_weights-{layers.index(place.rpartition('/')[0])}/{place.rpartition('/')[2]}": (
            tensors[name]
        )
        for name, place in places.items()
    }


def tree(tf, tensors):
    """Trackable objects whose variables have the names of `tensors`."""
    root = tf.Module()
    for name, value in tensors.items():
        *path, leaf = name.split("/")
        node = root
        for part in path:
            if not hasattr(node, part):
                setattr(node, part, tf.Module())
            node = getattr(node, part)
        setattr(node, leaf, tf.Variable(value))
    return root


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint(tf, name, tmp_path):
    manifest, tensors, _ = reference.load(CASES[name])
    stored = in_files(tensors, manifest) if name == "fani" else tensors
    optimizer = tree(tf, {"iter": np.int64(3), "m": np.ones(2, np.float32)})
    saved = tf.train.Checkpoint(model=tree(tf, stored), optimizer=optimizer)
    prefix = saved.save(str(tmp_path / "ckpt"))
    assert_same(name, tensors, prefix)
    assert_same(name, tensors, f"{prefix}.index")


def test_a_saved_model(tf, tmp_path):
    manifest, tensors, _ = reference.load("mobile_fani_tiny")
    tf.saved_model.save(tree(tf, in_files(tensors, manifest)), str(tmp_path))
    assert_same("fani", tensors, tmp_path)


def test_what_cannot_be_read_is_explained(tf, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="none-3 is neither a checkpoint .* nor a SavedModel"):
        read_tf(tmp_path / "none-3")
    with pytest.raises(InputError, match="neither"):
        read_tf(tmp_path)
    (tmp_path / "ckpt-1.index").write_bytes(b"not one")
    with pytest.raises(InputError, match="ckpt-1 cannot be read as a checkpoint"):
        read_tf(tmp_path / "ckpt-1")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(InputError, match="pip install tensorflow"):
        read_tf(tmp_path / "ckpt-1")


def test_what_does_not_fit_fani_is_named():
    _, tensors, _ = reference.load("mobile_fani_tiny")
    less = {k: v for k, v in tensors.items() if k != "batch_normalization_3/moving_mean"}
    with pytest.raises(ValueError, match="normalization_3/moving_mean .*block_1/stage_0/norm/mean"):
        weights.from_tf("fani", less)
    with pytest.raises(ValueError, match="left over: conv2d_89/bias, conv2d_90/kernel"):
        weights.from_tf("fani", tensors, shallow="conv")
