import argparse
import io
import json
import struct
import sys
import zipfile

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


def write_npz(path, **members):
    """An .npz file of raw members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


def npy(shape, data, descr="<f4"):
    """The bytes of an .npy file, whatever its header says."""
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


def safetensors(header, data=b""):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return struct.pack("<Q", len(text)) + text + data


TERA = {"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}


@pytest.mark.parametrize("name", ["w.npz", "w.safetensors", "w.pth", "w.pt", "w.ckpt"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a Git LFS pointer",
        ),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"<html lang=en>\xc3\xa9", "a web page"),
        (b'{"error": "Repository not found"}', "a text"),
        (b"\x1f\x8b\x08\0\0", "an archive"),
        (npy((2,), bytes(8)), r"a single array without a name \(.npy\)"),
    ],
)
def test_what_is_often_taken_for_weights_is_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(
        InputError, match=rf"{name} cannot be read as a file of tensors: it is {message}"
    ):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            npy((10**12,), bytes(8)),
            r"a has the header float32 \(1000000000000,\), .* its 136 bytes",
        ),
        (npy((-1,), bytes(8)), "a has the header"),
        (npy((10**12, 0, 10**12), b""), "maximum|too|big|array"),
        (npy((1,), bytes(8), "|O"), "a has the header object"),
        (npy((2,), b"abcdefgh", "<U1"), "a is not a tensor of real numbers but <U1"),
        (npy((1,), bytes(8), "<c8"), "a is not a tensor of real numbers but complex64"),
        (b"not an array", "the magic string is not correct"),
    ],
)
def test_headers_of_npz_that_lie_are_refused(tmp_path, data, message):
    write_npz(tmp_path / "w.npz", a=data)
    with pytest.raises(InputError, match=f"w.npz.*({message})"):
        read(tmp_path / "w.npz")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxvsr.weights.files.MAX_BYTES", 2**20)
    write_npz(tmp_path / "w.npz", a=npy((2**19,), bytes(2**21)))
    assert (tmp_path / "w.npz").stat().st_size < 2**12
    with pytest.raises(InputError, match="it holds .* GiB; expected at most"):
        read(tmp_path / "w.npz")


def test_a_huge_file_is_refused_unread(tmp_path):
    with (tmp_path / "w.ckpt").open("wb") as file:
        file.write(b"\n")
        file.truncate(2**40)  # sparse
    with pytest.raises(InputError, match="it holds 1,024 GiB"):
        read(tmp_path / "w.ckpt")


@pytest.mark.parametrize(
    "data",
    [
        safetensors(TERA),
        safetensors({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}),
        safetensors({"a": {"dtype": "F32", "shape": [1] * 99, "data_offsets": [0, 4]}}, bytes(4)),
        safetensors(b"[" * 100_000),
        struct.pack("<Q", 2**60) + b"{}",
    ],
)
def test_headers_of_safetensors_that_lie_are_refused(tmp_path, data):
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="w.safetensors cannot be read as a file of tensors: "):
        read(tmp_path / "w.safetensors")


def test_bfloat16_in_safetensors(tmp_path):
    header = {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    (tmp_path / "w.safetensors").write_bytes(safetensors(header, b"\x80\x3f\x00\xc0"))
    np.testing.assert_array_equal(read(tmp_path / "w.safetensors")["a"], [1, -2])


def test_control_characters_in_names_are_escaped(tmp_path):
    save_file({"a\x1b[2J\n": np.ones(2)}, tmp_path / "w.safetensors")
    assert list(read(tmp_path / "w.safetensors")) == [r"a\x1b[2J\n"]
    path = tmp_path / "w\x1b[2J.npz"
    for write in (lambda: None, path.touch):
        write()
        with pytest.raises(InputError) as error:
            read(path)
        assert str(error.value).isprintable()


def test_suffixes_in_capitals(tmp_path):
    with (tmp_path / "w.NPZ").open("wb") as file:
        np.savez(file, **TENSORS)
    assert_read(tmp_path / "w.NPZ")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda torch: torch.ones(2, 2).to_sparse(), "a is sparse"),
        (lambda torch: torch.ones(2, device="meta"), "a is a meta tensor, which has no values"),
        (lambda torch: torch.ones(1).expand(10**6, 10**6), "a has the shape .*1000000"),
        (lambda torch: torch.ones(2, dtype=torch.complex64), "a is complex"),
    ],
)
def test_tensors_of_pytorch_without_plain_numbers_are_named(tmp_path, make, message):
    torch = pytest.importorskip("torch")
    torch.save({"a": make(torch)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=message):
        read(tmp_path / "w.pth")


def test_other_contents_of_files_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pth"
    weights = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in TENSORS.items()}
    torch.save({"state_dict": weights, "args": argparse.Namespace(lr=1), "epoch": 7}, path)
    assert_read(path)
    said = []
    torch.save({"params": {}, "model": {"ema": weights, "net": weights}, "optim": {0: 1}}, path)
    read(path, say=said.append)
    assert said == ["taking the weights 'ema'; the file also holds net"]
    torch.save({0: torch.ones(2)}, path)
    with pytest.raises(InputError, match="w.pth has 0 as the name of a tensor"):
        read(path)
    torch.save([torch.ones(2)], path)
    with pytest.raises(InputError, match="it holds a list, not tensors by name"):
        read(path)
    torch.save({"a": torch.ones(2), "where": tmp_path}, path)
    with pytest.raises(
        InputError, match="a Python object, pathlib.* which could run code"
    ) as error:
        read(path)
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value)
