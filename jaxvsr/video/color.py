"""Color spaces and pixel formats: conversion between coded frames and RGB with FFmpeg's scaler."""

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np

from jaxvsr.video.pyav import require_av

# FFmpeg's codes of YCbCr matrices -> the names that its scaler takes.
MATRICES = {
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020",
    10: "bt2020",
}
UNKNOWN, LIMITED, FULL = 0, 1, 2  # its codes of ranges
BT709, BT601, UNSPECIFIED = 1, 6, 2
FLAGS = "lanczos+accurate_rnd+full_chroma_int+full_chroma_inp"


@dataclasses.dataclass(frozen=True)
class Color:
    """Color space of a video, in the codes of ISO/IEC 23091-2.

    Attributes:
        matrix: YCbCr matrix.
        range: 1 (limited: 16 to 235 in 8 bits) or 2 (full: 0 to 255).
        primaries, transfer: copied to the output.
    """

    matrix: int = BT709
    range: int = LIMITED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED


def color_of(frame: Any, context: Any) -> Color:
    """Reads the color space of a decoded frame; missing codes get the defaults of players.

    Args:
        frame: a VideoFrame of PyAV.
        context: the decoder's CodecContext.
    """
    matrix, range_ = int(frame.colorspace), int(frame.color_range)
    if frame.format.is_rgb:
        matrix, range_ = BT709, LIMITED  # for the output
    elif matrix not in MATRICES:
        matrix = BT709 if frame.height >= 720 else BT601
    if range_ == UNKNOWN:
        range_ = FULL if frame.format.name.startswith("yuvj") else LIMITED
    return Color(matrix, range_, int(context.color_primaries), int(context.color_trc))


def is_deep(pixel_format: str) -> bool:
    """Whether a pixel format has more than 8 bits per component."""
    return require_av().VideoFormat(pixel_format).components[0].bits > 8


class Converter:
    """Converts frames from one pixel format and size to another."""

    def __init__(
        self,
        size: tuple[int, int],
        source: str,
        target: str,
        color: Color,
        target_size: tuple[int, int] | None = None,
    ) -> None:
        """Builds the filter graph.

        Args:
            size: (h, w), pixels.
            source, target: pixel formats by FFmpeg's names; one of them is RGB.
            color: color space of the format that is not RGB.
            target_size: (h, w) of the result; None: `size`.
        """
        av = require_av()
        (height, width), (rows, columns) = size, target_size or size
        matrix, range_ = MATRICES[color.matrix], "pc" if color.range == FULL else "tv"
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
        """Converts a VideoFrame of PyAV; the time of the result is not set."""
        frame.pts = self._number  # filters refuse times that decrease
        self._number += 1
        self._graph.vpush(frame)
        return self._graph.vpull()


def to_frame(pixels: np.ndarray) -> Any:
    """Converts (h, w, 3) uint8 or uint16 RGB to a VideoFrame of PyAV."""
    name = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
    return require_av().VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=name)
