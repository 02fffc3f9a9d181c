"""Colour and pixel formats: between a file's frames and RGB, by FFmpeg's scaler at its best."""

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np

from jaxvsr.data.degradations.codecs import require_av

# FFmpeg's numbers of matrices, and what its scaler calls them.
MATRICES = {
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020",
    10: "bt2020",
}
UNKNOWN, LIMITED, FULL = 0, 1, 2  # its numbers of ranges
BT709, BT601, UNSPECIFIED = 1, 6, 2
FLAGS = "lanczos+accurate_rnd+full_chroma_int+full_chroma_inp"


@dataclasses.dataclass(frozen=True)
class Colour:
    """What the numbers of a video's frames mean, in FFmpeg's numbers (ISO/IEC 23091-2).

    Attributes:
        matrix: between RGB and luma with two differences.
        range: 1, 16 to 235 in 8 bits, or 2, 0 to 255.
        primaries, transfer: handed through.
    """

    matrix: int = BT709
    range: int = LIMITED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED


def colour_of(frame: Any, context: Any) -> Colour:
    """The colour of a decoded frame; what it leaves open is what players take it for.

    Args:
        frame: of PyAV.
        context: of the decoder.
    """
    matrix, range_ = int(frame.colorspace), int(frame.color_range)
    if frame.format.is_rgb:
        matrix, range_ = BT709, LIMITED  # of what will be written
    elif matrix not in MATRICES:
        matrix = BT709 if frame.height >= 720 else BT601
    if range_ == UNKNOWN:
        range_ = FULL if frame.format.name.startswith("yuvj") else LIMITED
    return Colour(matrix, range_, int(context.color_primaries), int(context.color_trc))


def is_deep(pixel_format: str) -> bool:
    """Whether a pixel format has more than 8 bits a component."""
    return require_av().VideoFormat(pixel_format).components[0].bits > 8


class Converter:
    """Converts frames of one size and format into those of another."""

    def __init__(
        self,
        size: tuple[int, int],
        source: str,
        target: str,
        colour: Colour,
        target_size: tuple[int, int] | None = None,
    ) -> None:
        """One of the formats is RGB.

        Args:
            size: (h, w), pixels.
            source, target: pixel formats, FFmpeg's names.
            colour: of the one that is not RGB.
            target_size: (h, w) to resize to.
        """
        av = require_av()
        (height, width), (rows, columns) = size, target_size or size
        matrix, range_ = MATRICES[colour.matrix], "pc" if colour.range == FULL else "tv"
        options = [str(columns), str(rows), f"flags={FLAGS}"]
        for side, name in (("in", source), ("out", target)):
            if not av.VideoFormat(name).is_rgb:
                options += [f"{side}_color_matrix={matrix}", f"{side}_range={range_}"]
        self._graph = av.filter.Graph()
        entry = self._graph.add_buffer(
            width=width, height=height, format=av.VideoFormat(source), time_base=Fraction(1, 1000)
        )
        scale = self._graph.add("scale", ":".join(options))
        exit_ = self._graph.add("format", target)
        self._graph.link_nodes(entry, scale, exit_, self._graph.add("buffersink")).configure()
        self._number = 0

    def __call__(self, frame: Any) -> Any:
        """A frame of PyAV into another, whose time is not set."""
        frame.pts = self._number  # a filter refuses to go back in time
        self._number += 1
        self._graph.vpush(frame)
        return self._graph.vpull()


def to_frame(pixels: np.ndarray) -> Any:
    """(h, w, 3) uint8 or uint16 RGB as a frame of PyAV."""
    name = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
    return require_av().VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=name)
