"""Quantization of LiteRT files: 16-bit weights, or 8-bit integers throughout."""

import contextlib
import io
import warnings
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8

from jaxvsr.exporting import flatbuffer
from jaxvsr.exporting.playing import Player

Ranges = dict[str, tuple[float, float]]
IMAGE = (0.0, 255.0)  # a scale of exactly 1


def float16(data: bytes) -> bytes:
    """Stores the weights of a float32 file in 16 bits; computation stays float32."""
    recipe = [
        {
            "regex": ".*",
            "operation": "*",
            "algorithm_key": "float_casting",
            "op_config": {
                "weight_tensor_config": {"num_bits": 16, "dtype": "FLOAT"},
                "compute_precision": "FLOAT",
                "explicit_dequantize": True,
                "skip_checks": False,
                "min_weight_elements": 0,
            },
        }
    ]
    return _quantize(data, recipe, None)


def int8(data: bytes, ranges: Ranges) -> bytes:
    """Quantizes a float32 file to 8-bit integers.

    Args:
        data: the file of a graph with `clips=False`.
        ranges: from `calibrate`.

    Returns:
        A file with uint8 ends: images have scale 1, the state has the same scale as an input and
        as an output.
    """
    from litert_quantizer import recipe

    names = flatbuffer.tensor_names(data)
    fixed = {names["frames"]: IMAGE, names["sr"]: IMAGE}
    operation, sources = flatbuffer.producer(data, names["sr"])
    if operation == "DEPTH_TO_SPACE":
        fixed[sources[0]] = IMAGE
    if "hidden" in names:
        both = [ranges[names[name]] for name in ("hidden", "hidden_out")]
        common = min(low for low, _ in both), max(high for _, high in both)
        fixed |= {names["hidden"]: common, names["hidden_out"]: common}
    known = {
        name: {"min": np.full((1, 1, 1, 1), low), "max": np.full((1, 1, 1, 1), high)}
        for name, (low, high) in (ranges | fixed).items()
    }
    return flatbuffer.make_integer(_quantize(data, recipe.static_wi8_ai8(), known))


def calibrate(data: bytes, clips: Iterable[UInt8[np.ndarray, "t h w 3"]]) -> Ranges:
    """Finds the range of every tensor of a float32 file on clips.

    Args:
        data: the file.
        clips: each from its first frame on.

    Returns:
        (minimum, maximum) by internal name.
    """
    player = Player(data, keep_tensors=True)
    found: Ranges = {}
    for clip in clips:
        for _ in player.play(clip):
            for name, (low, high) in player.ranges().items():
                least, most = found.get(name, (low, high))
                found[name] = min(low, least), max(high, most)
    return found


def _quantize(data: bytes, recipe: list, known: dict | None) -> bytes:
    from litert_quantizer import quantizer

    # Its progress bars and its warnings about the memory of kept tensors are for developers.
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        result = quantizer.Quantizer(data, recipe).quantize(
            known, enable_progress_bar=False, enable_progress_report=False
        )
    return bytes(result.quantized_model)
