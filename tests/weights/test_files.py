import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxvsr.errors import InputError
from jaxvsr.weights.files import read

TENSORS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2)}


def assert_read(path):
    tensors = read(path)
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], value)


def test_npz_and_safetensors(tmp_path):
    np.savez(tmp_path / "w.npz", **TENSORS)
    assert_read(tmp_path / "w.npz")
    save_file(TENSORS, tmp_path / "w.safetensors")
    assert_read(tmp_path / "w.safetensors")


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"params": t}])
def test_files_of_pytorch(tmp_path, wrap):
    torch = pytest.importorskip("torch")
    torch.save(wrap({k: torch.tensor(v) for k, v in TENSORS.items()}), tmp_path / "w.pth")
    assert_read(tmp_path / "w.pth")


def test_the_moving_average_is_preferred(tmp_path):
    torch = pytest.importorskip("torch")
    average = {k: torch.tensor(v) for k, v in TENSORS.items()}
    plain = {k: v + 1 for k, v in average.items()}
    torch.save({"params": plain, "params_ema": average}, tmp_path / "w.pth")
    assert_read(tmp_path / "w.pth")


def test_a_set_of_weights_can_be_chosen(tmp_path):
    torch = pytest.importorskip("torch")
    plain = {k: torch.tensor(v) for k, v in TENSORS.items()}
    average = {k: v + 1 for k, v in plain.items()}
    torch.save({"params": plain, "params_ema": average, "iter": 7}, tmp_path / "w.pth")
    tensors = read(tmp_path / "w.pth", "params")
    np.testing.assert_array_equal(tensors["a.weight"], TENSORS["a.weight"])
    with pytest.raises(InputError, match="w.pth holds no 'ema', but params, params_ema"):
        read(tmp_path / "w.pth", "ema")
    torch.save(plain, tmp_path / "w.pth")
    with pytest.raises(InputError, match="holds no 'params', but one set of weights"):
        read(tmp_path / "w.pth", "params")


def test_a_checkpoint_of_tensorflow(tmp_path):
    tf = pytest.importorskip("tensorflow")
    module = tf.Module()
    module.kernel = tf.Variable(TENSORS["a.weight"])
    tf.train.Checkpoint(model=module).write(str(tmp_path / "swrn"))
    expected = "model/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    for path in (tmp_path / "swrn", tmp_path / "swrn.index"):
        tensors = read(path)
        np.testing.assert_array_equal(tensors[expected], TENSORS["a.weight"])
    data = tmp_path / "swrn.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(InputError, match="swrn cannot be read"):
        read(tmp_path / "swrn")


@pytest.mark.parametrize("kind", ["npz", "safetensors", "pth"])
def test_a_truncated_file_is_refused(tmp_path, kind):
    path = tmp_path / f"w.{kind}"
    if kind == "pth":
        torch = pytest.importorskip("torch")
        torch.save({k: torch.tensor(v) for k, v in TENSORS.items()}, path)
    else:
        {"npz": np.savez_compressed, "safetensors": lambda p, **t: save_file(t, p)}[kind](
            path, **TENSORS
        )
    whole = path.read_bytes()
    for length in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="cannot be read as a file of tensors"):
            read(path)


def test_code_in_a_file_is_not_run(tmp_path):
    ran = tmp_path / "ran"

    class Malice:
        def __reduce__(self):
            return exec, (f"open({str(ran)!r}, 'w')",)

    np.savez(tmp_path / "w.npz", a=np.array([Malice()], object))
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "w.npz")
    torch = pytest.importorskip("torch")
    torch.save({"a": Malice()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "w.pth")
    assert not ran.exists()


def test_what_cannot_be_read_is_explained(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no file of weights .*none.npz"):
        read(tmp_path / "none.npz")
    (tmp_path / "w.h5").write_bytes(b"?")
    with pytest.raises(InputError, match="none of .pth, .*, .safetensors, .npz, .*TensorFlow"):
        read(tmp_path / "w.h5")
    with pytest.raises(InputError, match=r"is a folder, .*: it holds w.npz"):
        np.savez(tmp_path / "w.npz", **TENSORS)
        read(tmp_path)
    with pytest.raises(InputError, match="w.npz holds one set of weights"):
        read(tmp_path / "w.npz", "params_ema")
    (tmp_path / "w.safetensors").write_bytes(b"not one")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "w.safetensors")
    (tmp_path / "w.pth").write_bytes(b"?")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="pip install torch"):
        read(tmp_path / "w.pth")
