"""How an output is coded: the codec, its pixel format, its options, and containers that hold it."""

import dataclasses
import pathlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from jaxvsr.data.degradations.codecs import require_av
from jaxvsr.errors import InputError
from jaxvsr.video.colour import FULL, Colour, Converter, to_frame

# FFmpeg's names of containers, where these are not the suffix.
CONTAINERS = {".mkv": "matroska", ".m4v": "mp4", ".ts": "mpegts", ".mpg": "mpeg", ".wmv": "asf"}
# Constant rate factors at which coding is hardly seen, of the encoders that have one.
CRF = {
    "libx264": 18,
    "libx264rgb": 18,
    "libx265": 20,
    "libvpx-vp9": 24,
    "libsvtav1": 24,
    "libaom-av1": 24,
}
# What makes them lossless; what is not here has no such mode, or no other.
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
ALWAYS = {"libx265": {"x265-params": "log-level=none"}, "ffv1": {"level": "3", "slicecrc": "1"}}


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the user asks of a video; "" and None leave it to us.

    Attributes:
        codec: FFmpeg's name of an encoder or a codec.
        crf: constant rate factor.
        lossless: whether what the network gives is kept to the bit, as RGB.
        pixel_format: FFmpeg's name.
        options: of the encoder, by name.
        height: of the frames, which are resized in the end; 0: as the network gives them.
    """

    codec: str = ""
    crf: int | None = None
    lossless: bool = False
    pixel_format: str = ""
    options: tuple[tuple[str, str], ...] = ()
    height: int = 0


@dataclasses.dataclass(frozen=True)
class Coding:
    """How a video is coded.

    Attributes:
        codec: FFmpeg's name of the encoder.
        pixel_format: its name.
        size: (h, w), pixels.
        rate: frames a second, on average.
        colour: of the frames.
        aspect: of a pixel.
        options: of the encoder.
        global_header: whether its headers are to be kept apart, as some containers want them.
    """

    codec: str
    pixel_format: str
    size: tuple[int, int]
    rate: Fraction
    colour: Colour
    aspect: Fraction
    options: dict[str, str]
    global_header: bool

    def set(self, context: Any) -> None:
        """Sets an encoder's context."""
        av = require_av()
        context.height, context.width = self.size
        context.pix_fmt = self.pixel_format
        # Frames are numbered; when each is shown is known to the container.
        context.framerate = self.rate.limit_denominator(65535)
        context.time_base = 1 / context.framerate
        context.sample_aspect_ratio = self.aspect
        if not av.VideoFormat(self.pixel_format).is_rgb:
            context.colorspace = self.colour.matrix
            context.color_range = self.colour.range
            context.color_primaries = self.colour.primaries
            context.color_trc = self.colour.transfer
        else:
            context.colorspace, context.color_range = 0, FULL
        context.options = self.options
        if self.global_header:
            context.flags |= av.codec.context.Flags.global_header


class Encoder:
    """Encodes frames that are numbered from 0."""

    def __init__(self, coding: Coding) -> None:
        """Opens the encoder with the first frame.

        Args:
            coding: says how.
        """
        self._coding = coding
        self._context = require_av().CodecContext.create(coding.codec, "w")
        coding.set(self._context)
        self._converter: Converter | None = None
        self._number = 0

    def encode(self, pixels: np.ndarray) -> Sequence[Any]:
        """(h, w, 3) uint8 or uint16 RGB of the next frame -> packets that are ready."""
        frame, coding = to_frame(pixels), self._coding
        if self._converter is None:
            self._converter = Converter(
                pixels.shape[:2],
                frame.format.name,
                coding.pixel_format,
                coding.colour,
                coding.size,
            )
        converted = self._converter(frame)
        converted.pts, converted.time_base = self._number, self._context.time_base
        converted.pict_type = 0  # the encoder chooses key frames
        self._number += 1
        return self._context.encode(converted)

    @property
    def unknown(self) -> list[str]:
        """The options that the encoder does not know, once it has got a frame."""
        return list(self._context.options)

    def flush(self) -> Sequence[Any]:
        """The packets that are left."""
        return self._context.encode(None)


def choose(
    output: pathlib.Path,
    wish: Wish,
    size: tuple[int, int],
    rate: Fraction,
    source_format: str,
    colour: Colour,
    aspect: Fraction,
) -> Coding:
    """Decides how a video is coded.

    Args:
        output: its path.
        wish: what the user asks for.
        size: (h, w) that the network gives.
        rate: frames a second, on average.
        source_format: pixel format of the input.
        colour: of the input.
        aspect: of a pixel.

    Raises:
        InputError: there is no such container, encoder, pixel format, or not together.
    """
    av = require_av()
    try:
        container = av.ContainerFormat(CONTAINERS.get(output.suffix, output.suffix[1:]), "w")
    except ValueError as error:
        raise InputError(
            f"{output}: there is no container {output.suffix}; there are .mp4, .mkv, .mov, .webm, "
            ".avi and more"
        ) from error
    if wish.pixel_format and wish.pixel_format not in av.video.format.names:
        raise InputError(f"--pix_fmt={wish.pixel_format}: there is no such pixel format")
    deep = any(c.bits > 8 for c in av.VideoFormat(wish.pixel_format or source_format).components)
    name = wish.codec or _usual_codec(output.suffix, deep, wish.lossless)
    try:
        codec = av.codec.Codec(name, "w")
    except ValueError as error:
        raise InputError(f"--codec={name}: PyAV's FFmpeg has no such encoder") from error
    if codec.type != "video":
        raise InputError(f"--codec={name} is no video encoder")
    if wish.lossless and codec.name not in LOSSLESS:
        raise InputError(f"--codec={name} is not lossless; these can be: {', '.join(LOSSLESS)}")
    pixel_format = _pixel_format(codec, wish, source_format, deep)
    return Coding(
        codec=codec.name,
        pixel_format=pixel_format,
        size=_resized(size, wish.height, pixel_format),
        rate=rate,
        colour=colour,
        aspect=aspect,
        options=_options(codec.name, wish),
        global_header=bool(container.flags & av.format.Flags.global_header.value),
    )


def _usual_codec(suffix: str, deep: bool, lossless: bool) -> str:
    if suffix == ".webm":
        return "libvpx-vp9"
    if lossless:
        return (
            "ffv1"
            if suffix not in (".mp4", ".mov", ".m4v")
            else ("libx265" if deep else "libx264rgb")
        )
    return "libx265" if deep else "libx264"


def _pixel_format(codec: Any, wish: Wish, source: str, deep: bool) -> str:
    """What the encoder takes that is nearest to what the source has."""
    av = require_av()
    known = [f.name for f in codec.video_formats or () if not f.name.startswith("yuvj")]
    if wish.pixel_format:
        if known and wish.pixel_format not in known:
            raise InputError(
                f"--pix_fmt={wish.pixel_format}: {codec.name} takes {', '.join(known)}"
            )
        return wish.pixel_format
    if wish.lossless:
        known = [name for name in known if av.VideoFormat(name).is_rgb]
        wanted = "gbrp10le" if deep else "rgb24"
        if not known:
            raise InputError(
                f"--codec={codec.name} cannot keep RGB: name --pix_fmt, or another codec"
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
    """The size in the file: colour at half the resolution needs even sides."""
    h, w = size
    if height:
        h, w = height, round(w * height / h)
    chroma = require_av().VideoFormat(pixel_format)
    even_h, even_w = chroma.chroma_height(2) < 2, chroma.chroma_width(2) < 2
    return max(h - h % 2, 2) if even_h else h, max(w - w % 2, 2) if even_w else w


def _options(codec: str, wish: Wish) -> dict[str, str]:
    options = dict(ALWAYS.get(codec, {}))
    if wish.lossless:
        options |= LOSSLESS[codec]
    elif wish.crf is not None and codec not in CRF:
        raise InputError(f"--crf is for {', '.join(CRF)}; {codec} has --codec_options alone")
    elif codec in CRF:
        options["crf"] = str(CRF[codec] if wish.crf is None else wish.crf)
        if codec.startswith(("libvpx", "libaom")):
            options["b"] = "0"  # or it would be a limit
    elif codec in ("mpeg4", "mpeg2video", "mjpeg"):
        options |= {"flags": "+qscale", "global_quality": str(3 * 118)}
    return options | dict(wish.options)
