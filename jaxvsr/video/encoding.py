"""Video encoding: the choice of codec, pixel format and options, and the encoder itself."""

import dataclasses
import pathlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from jaxvsr.errors import InputError
from jaxvsr.video.color import FULL, Color, Converter, to_frame
from jaxvsr.video.pyav import require_av

# FFmpeg's names of containers that are not called by their suffix.
CONTAINERS = {
    **{".mkv": "matroska", ".m4v": "mp4", ".qt": "mov", ".wmv": "asf", ".mpg": "mpeg"},
    **{".ts": "mpegts", ".mts": "mpegts", ".m2ts": "mpegts"},
}
# Encoders for containers that do not hold H.264, or whose players do not expect it.
DEFAULT_CODECS = {
    **{".webm": "libvpx-vp9", ".ogv": "libvpx", ".ogg": "libvpx"},
    **dict.fromkeys((".mpg", ".mpeg", ".vob", ".mxf"), "mpeg2video"),
    **dict.fromkeys((".wmv", ".asf"), "wmv2"),
}
# Default constant rate factor of the encoders that have one: visually lossless.
CRF = {
    "libx264": 18,
    "libx264rgb": 18,
    "libx265": 20,
    "libvpx-vp9": 24,
    "libvpx": 8,
    "libsvtav1": 24,
    "libaom-av1": 24,
}
# Options that make an encoder lossless. Others have no lossless mode.
LOSSLESS = {
    "libx264": {"qp": "0"},
    "libx264rgb": {"qp": "0"},
    "libx265": {"x265-params": "lossless=1:log-level=none"},
    "libvpx-vp9": {"lossless": "1"},
    "ffv1": {},
    "huffyuv": {},
    "ffvhuff": {},
    "png": {},
    "rawvideo": {},
}
REORDERING = ("libx264", "libx264rgb", "libx265", "mpeg4", "mpeg2video")
ALWAYS = {"libx265": {"x265-params": "log-level=none"}, "ffv1": {"level": "3", "slicecrc": "1"}}


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
    """The user's wishes for the encoding of a video; "" and None mean the default.

    Attributes:
        codec: FFmpeg's name of an encoder or a codec.
        crf: constant rate factor.
        lossless: whether the network's output is kept to the bit, as RGB.
        pixel_format: FFmpeg's name.
        options: (name, value) pairs for the encoder.
        height: output height in pixels, by resizing; 0: the network's.
    """

    codec: str = ""
    crf: int | None = None
    lossless: bool = False
    pixel_format: str = ""
    options: tuple[tuple[str, str], ...] = ()
    height: int = 0


@dataclasses.dataclass(frozen=True)
class Encoding:
    """The complete settings of an encoder.

    Attributes:
        codec: FFmpeg's name of the encoder.
        pixel_format: FFmpeg's name.
        size: (h, w), pixels.
        rate: average frames per second.
        color: color space of the frames.
        aspect: width over height of a pixel.
        options: of the encoder, name -> value.
        global_header: whether the container stores the encoder's headers once, apart.
    """

    codec: str
    pixel_format: str
    size: tuple[int, int]
    rate: Fraction
    color: Color
    aspect: Fraction
    options: dict[str, str]
    global_header: bool

    def configure(self, context: Any) -> None:
        """Applies the settings to a CodecContext of PyAV."""
        av = require_av()
        context.height, context.width = self.size
        context.pix_fmt = self.pixel_format
        # Frames are counted here; their display times are set when packets are muxed.
        context.framerate = self.rate.limit_denominator(65535)
        context.time_base = 1 / context.framerate
        context.sample_aspect_ratio = self.aspect
        if not av.VideoFormat(self.pixel_format).is_rgb:
            context.colorspace = self.color.matrix
            context.color_range = self.color.range
            context.color_primaries = self.color.primaries
            context.color_trc = self.color.transfer
        else:
            context.colorspace, context.color_range = 0, FULL
        context.options = self.options
        if self.global_header:
            context.flags |= av.codec.context.Flags.global_header


class Encoder:
    """Encodes the frames of a video or of a segment; their times count from 0."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._context = require_av().CodecContext.create(encoding.codec, "w")
        encoding.configure(self._context)
        self._converter: Converter | None = None
        self._number = 0

    def encode(self, pixels: np.ndarray) -> Sequence[Any]:
        """Encodes the next frame, (h, w, 3) uint8 or uint16 RGB; returns finished packets."""
        frame, encoding = to_frame(pixels), self._encoding
        if self._converter is None:
            self._converter = Converter(
                pixels.shape[:2],
                frame.format.name,
                encoding.pixel_format,
                encoding.color,
                encoding.size,
            )
        converted = self._converter(frame)
        converted.pts, converted.time_base = self._number, self._context.time_base
        converted.pict_type = 0  # the encoder chooses key frames
        self._number += 1
        return self._context.encode(converted)

    @property
    def unknown(self) -> list[str]:
        """Options that the encoder does not know; complete after the first frame."""
        return list(self._context.options)

    def flush(self) -> Sequence[Any]:
        """Returns the remaining packets."""
        return self._context.encode(None)


def container_format(output: pathlib.Path) -> Any:
    """PyAV's ContainerFormat of an output, by its suffix.

    Raises:
        InputError: FFmpeg has no such container.
    """
    suffix = output.suffix.lower()
    name = CONTAINERS.get(suffix, suffix[1:])
    try:
        return require_av().ContainerFormat(name, "w")
    except ValueError as error:
        raise InputError(
            f"{output}: unknown container {output.suffix!r}; use .mp4, .mkv, .mov, .webm or "
            ".avi, or add a / at the end of the name to make it a folder of images"
        ) from error


def has_variable_rate(output: pathlib.Path) -> bool:
    """Whether the container of an output stores the time of each frame.

    Raises:
        InputError: as `container_format`.
    """
    variable = require_av().format.Flags.variable_fps.value
    return bool(container_format(output).flags & variable)


def choose_encoding(
    output: pathlib.Path,
    options: EncoderOptions,
    size: tuple[int, int],
    rate: Fraction,
    source_format: str = "rgb24",
    color: Color | None = None,
    aspect: Fraction = Fraction(1),
) -> Encoding:
    """Chooses the encoding of a video: the user's options, completed by defaults.

    Args:
        output: path of the video; its suffix names the container.
        options: of the user.
        size: (h, w) of the frames before resizing.
        rate: average frames per second.
        source_format: pixel format of the input, which decides the bit depth.
        color: color space; None: BT.709, limited range.
        aspect: width over height of a pixel.

    Raises:
        InputError: an unknown container, encoder or pixel format, or an impossible combination.
    """
    av = require_av()
    container = container_format(output)
    if options.pixel_format and options.pixel_format not in av.video.format.names:
        raise InputError(f"--pix_fmt={options.pixel_format}: FFmpeg has no such pixel format")
    deep = any(c.bits > 8 for c in av.VideoFormat(options.pixel_format or source_format).components)
    name = options.codec or _default_codec(output.suffix.lower(), deep, options.lossless)
    try:
        codec = av.codec.Codec(name, "w")
    except ValueError as error:
        raise InputError(f"--codec={name}: PyAV's FFmpeg has no such encoder") from error
    if codec.type != "video":
        raise InputError(f"--codec={name} is not a video encoder")
    if options.lossless and codec.name not in LOSSLESS:
        raise InputError(f"--codec={name} has no lossless mode; these have: {', '.join(LOSSLESS)}")
    pixel_format = _pixel_format(codec, options, source_format, deep)
    return Encoding(
        codec=codec.name,
        pixel_format=pixel_format,
        size=_resized(size, options.height, pixel_format),
        rate=rate,
        color=color or Color(),
        aspect=aspect,
        options=_encoder_options(codec.name, options, has_variable_rate(output)),
        global_header=bool(container.flags & av.format.Flags.global_header.value),
    )


def _default_codec(suffix: str, deep: bool, lossless: bool) -> str:
    if suffix in DEFAULT_CODECS:
        return DEFAULT_CODECS[suffix]
    if lossless:
        return (
            "ffv1"
            if suffix not in (".mp4", ".mov", ".m4v")
            else ("libx265" if deep else "libx264rgb")
        )
    return "libx265" if deep else "libx264"


def _pixel_format(codec: Any, options: EncoderOptions, source: str, deep: bool) -> str:
    """The encoder's pixel format that is closest to the source's."""
    av = require_av()
    known = [f.name for f in codec.video_formats or () if not f.name.startswith("yuvj")]
    if options.pixel_format:
        if known and options.pixel_format not in known:
            raise InputError(
                f"--pix_fmt={options.pixel_format}: {codec.name} takes {', '.join(known)}"
            )
        return options.pixel_format
    if options.lossless:
        known = [name for name in known if av.VideoFormat(name).is_rgb]
        wanted = "gbrp10le" if deep else "rgb24"
        if not known:
            raise InputError(
                f"--codec={codec.name} cannot store RGB: choose another codec, or set --pix_fmt"
            )
    elif av.VideoFormat(source).is_rgb or len(av.VideoFormat(source).components) < 3:
        wanted = "yuv420p10le" if deep else "yuv420p"
    else:
        wanted = source
    if not known or wanted in known:
        return wanted
    best, _ = av.codec.codec.find_best_pix_fmt_of_list(known, wanted)
    return best.name


def _resized(size: tuple[int, int], height: int, pixel_format: str) -> tuple[int, int]:
    """The coded size: chroma at half the resolution needs even sizes."""
    h, w = size
    if height:
        h, w = height, round(w * height / h)
    chroma = require_av().VideoFormat(pixel_format)
    even_h, even_w = chroma.chroma_height(2) < 2, chroma.chroma_width(2) < 2
    return max(h - h % 2, 2) if even_h else h, max(w - w % 2, 2) if even_w else w


def _encoder_options(codec: str, options: EncoderOptions, timed: bool) -> dict[str, str]:
    """The options of the encoder.

    Args:
        codec: its name.
        options: of the user.
        timed: whether the container stores display times. Otherwise frames are coded in the order
            in which they are displayed.
    """
    chosen = dict(ALWAYS.get(codec, {}))
    if not timed and codec in REORDERING:
        chosen["bf"] = "0"
    if options.lossless:
        chosen |= LOSSLESS[codec]
    elif options.crf is not None and codec not in CRF:
        raise InputError(
            f"--crf is not an option of {codec}; it is one of {', '.join(CRF)}. Use --codec_options"
        )
    elif codec in CRF:
        chosen["crf"] = str(CRF[codec] if options.crf is None else options.crf)
        # The default bit rate would limit the quality.
        if codec == "libvpx":
            chosen["b"] = "100M"
        elif codec.startswith(("libvpx", "libaom")):
            chosen["b"] = "0"
    elif codec in ("mpeg4", "mpeg2video", "mjpeg", "wmv2"):
        chosen |= {"flags": "+qscale", "global_quality": str(3 * 118)}
    return chosen | dict(options.options)
