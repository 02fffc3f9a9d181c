import numpy as np
import pytest
from ckpt import entry, field

from jaxvsr.errors import InputError
from jaxvsr.weights import mindspore
from jaxvsr.weights.files import read

WEIGHT = np.arange(300, dtype=np.float32).reshape(2, 150)
HALF = np.array([1.5, -2], np.float16)
CHECKPOINT = (
    entry("cell.weight", (2, 150), "Float32", WEIGHT.tobytes())
    + entry("cell.gamma", (2,), "Float16", HALF.tobytes(), packed=True)
    + entry("step", (), "Int32", np.int32(7).tobytes())
)


def test_a_checkpoint_is_read():
    tensors = mindspore.parse(CHECKPOINT)
    assert list(tensors) == ["cell.weight", "cell.gamma", "step"]
    np.testing.assert_array_equal(tensors["cell.weight"], WEIGHT)
    np.testing.assert_array_equal(tensors["cell.gamma"], HALF)
    assert tensors["step"].shape == () and tensors["step"] == 7


def test_bfloat16_is_the_upper_half_of_float32():
    tensors = mindspore.parse(entry("w", (2,), "BFloat16", b"\x80\x3f\x00\xc0"))
    np.testing.assert_array_equal(tensors["w"].astype(np.float32), [1, -2])


def test_slices_of_a_large_tensor_are_joined():
    data = WEIGHT.tobytes()
    parts = [
        entry("w", (2, 150), "Float32", data[:100]),
        entry("w", (2, 150), "Float32", data[100:]),
    ]
    np.testing.assert_array_equal(mindspore.parse(b"".join(parts))["w"], WEIGHT)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 20, 700, len(CHECKPOINT) - 1])
def test_a_truncated_file_is_refused(length, tmp_path):
    path = tmp_path / "w.ckpt"
    path.write_bytes(CHECKPOINT[:length])
    with pytest.raises(InputError, match="w.ckpt cannot be read as a file of tensors: "):
        read(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no tensors"),
        (b"\x17\x00", "begins no field"),
        (b"\xff" * 20, "ends no number"),
        (field(3, b"x"), "field 3 is none of a checkpoint's"),
        (field(1, field(1, b"name")), "not a name and a tensor"),
        (entry("w", (3,), "Float32", bytes(8)), r"w has 2 values, but dimensions \(3,\)"),
        (entry("w", (2,), "String", bytes(8)), "w is of the type 'String'"),
        (entry("w", (2**62,) * 400_000, "Float32", bytes(8)), "w has more than 32 dimensions"),
        (entry("w", (2**62,) * 400_000, "Float32", b"", True), "w has more than 32 dimensions"),
    ],
)
def test_what_is_no_checkpoint_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        mindspore.parse(data)


def test_a_file_is_told_by_what_is_in_it(tmp_path):
    """Files of PyTorch are called .ckpt, too."""
    path = tmp_path / "w.ckpt"
    path.write_bytes(CHECKPOINT)
    tensors = read(path)
    assert {x.dtype for x in tensors.values()} == {np.dtype(np.float32)}
    torch = pytest.importorskip("torch")
    torch.save({"state_dict": {"a": torch.ones(2)}}, path)
    assert list(read(path)) == ["a"]
