"""Files for phones: what is written, quantization, and the calibration's clips."""

import json

import numpy as np
import pytest
import trees

from jaxvsr import presets
from jaxvsr.errors import InputError
from jaxvsr.exporting import clips, flatbuffer, litert, phone_file, quantization
from jaxvsr.exporting.phone_graph import phone_graph
from jaxvsr.exporting.playing import Player, psnr

SIZE = (32, 48)


@pytest.fixture(scope="module")
def files():
    """The built-in network in all quantizations, for `moving_texture`."""
    pytest.importorskip("litert_converter")
    model, variables, _ = presets.load("swrn")
    graph = phone_graph(model, variables, SIZE)
    fp32 = litert.convert(graph)
    texture = [clips.moving_texture(SIZE)]
    int8 = phone_file.quantize_int8(graph, texture)
    return {"fp32": fp32, "fp16": quantization.float16(fp32), "int8": int8}


def test_quantization_keeps_the_image(files):
    clip = clips.moving_texture(SIZE)
    exact, half, integer = (Player(data).upscale(clip) for data in files.values())
    assert psnr(half, exact) > 75
    assert psnr(integer, exact) > 40


def test_quantization_shrinks_the_file(files):
    sizes = {quant: len(data) / len(files["fp32"]) for quant, data in files.items()}
    assert sizes["fp16"] < 0.56 and sizes["int8"] < 0.40


def test_an_int8_file_is_integer_throughout(files):
    model = flatbuffer.read(files["int8"])
    assert all(tensor.type != 0 for tensor in model.subgraphs[0].tensors if _used(model, tensor))
    assert "DEQUANTIZE" not in flatbuffer.operations(files["int8"])
    ends = flatbuffer.ends(files["int8"])
    for image in ("frames", "sr"):
        assert (ends[image].dtype, ends[image].scale, ends[image].zero_point) == ("uint8", 1, 0)
    assert ends["hidden"] == ends["hidden_out"] and ends["hidden"].dtype == "uint8"


def _used(model, tensor):
    graph = model.subgraphs[0]
    index = next(i for i, each in enumerate(graph.tensors) if each is tensor)
    return any(index in op.inputs or index in op.outputs for op in graph.operators)


def test_a_nearest_base_is_quantized_to_the_same_ends():
    pytest.importorskip("litert_converter")
    from exporting.test_phone_graph import network

    graph = phone_graph(*network("ABPN_0"), SIZE)
    clip = clips.moving_texture(SIZE)
    exact = Player(litert.convert(graph)).upscale(clip)
    data = phone_file.quantize_int8(graph, [clip])
    assert flatbuffer.ends(data)["sr"] == flatbuffer.End((1, 128, 192, 3), "uint8", 1, 0)
    assert psnr(Player(data).upscale(clip), exact) > 35


def test_files_and_table(tmp_path, capsys, files):
    model, variables, _ = presets.load("swrn")
    request = phone_file.Request(SIZE, "fp16")
    origin = {"preset": "swrn"}
    path = phone_file.export_phone_file(model, variables, request, origin, "swrn", tmp_path / "a")
    assert path.read_bytes() == files["fp16"]
    described = json.loads(path.with_suffix(".json").read_text())
    assert (described["scale"], described["lookahead"]) == (4, 1)
    assert described["source"] == origin
    assert described["operations"]["CONV_2D"] == 15
    assert described["ends"]["frames"]["shape"] == [1, 32, 48, 9]
    printed = capsys.readouterr().out
    assert "fp32" in printed and f"{len(files['fp16']):,}" in printed
    assert sorted(x.name for x in path.parent.iterdir()) == [
        "swrn_32x48_fp16.json",
        "swrn_32x48_fp16.tflite",
    ]


def test_clips_of_a_folder(tmp_path):
    for i in (2, 10, 1):
        trees.write(tmp_path / "images" / f"{i}.png", np.full((32, 48, 3), i, np.uint8))
    trees.write_video(tmp_path / "video.mkv", np.full((2, 32, 48, 3), 5, np.uint8))
    first, second = clips.read_clips(tmp_path, SIZE)
    assert first[:, 0, 0, 0].tolist() == [1, 2, 10]
    assert second.shape == (2, 32, 48, 3)
    (only,) = clips.read_clips(tmp_path / "images", SIZE)
    np.testing.assert_array_equal(only, first)


def test_wrong_clips_are_explained(tmp_path):
    trees.write(tmp_path / "other" / "1.png", np.zeros((16, 48, 3), np.uint8))
    (tmp_path / "empty").mkdir()
    for name, message in [
        ("missing", "is not a folder"),
        ("empty", "holds no frames"),
        ("other", "has frames of 16x48 .* but --size=32x48"),
    ]:
        with pytest.raises(InputError, match=message):
            clips.read_clips(tmp_path / name, SIZE)


def test_a_failing_converter_is_one_line():
    pytest.importorskip("litert_converter")
    with pytest.raises(InputError, match="^convert failed .exit code 1.: [^\n]+$"):
        litert.work("convert", b"no module", inputs=["frames"], outputs=["sr"])


def test_a_crash_is_named_by_its_signal(monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nkill -ABRT $$\n")
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    with pytest.raises(InputError, match="convert failed .SIGABRT."):
        litert.work("convert", b"")


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(litert.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'jaxvsr\[export\]'"):
        litert.require_packages()
