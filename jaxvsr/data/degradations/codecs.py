"""JPEG and video compression by real codecs in memory: Pillow, and PyAV, which is optional."""

import io
from fractions import Fraction

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from jaxvsr.data.degradations.common import (
    check_clip,
    check_quality,
    check_uint8_frames,
    per_frame,
    positive,
)
from jaxvsr.video.pyav import require_av


def jpeg(
    frames: UInt8[np.ndarray, "*b h w 3"], quality: int | Shaped[np.ndarray, "..."]
) -> UInt8[np.ndarray, "*b h w 3"]:
    """Encodes each frame as JPEG with 4:2:0 chroma and decodes it.

    Args:
        frames: (..., h, w, 3) RGB uint8.
        quality: 1 (worst) to 100; one number, or one per frame.

    Returns:
        (..., h, w, 3) uint8.

    Raises:
        TypeError: frames are not uint8.
        ValueError: frames of another shape, or quality out of range or of another shape.
    """
    frames = np.asarray(frames)
    check_uint8_frames(frames)
    check_quality(quality)
    each = np.broadcast_to(per_frame(quality, frames, "quality", 0), frames.shape[:-3])
    out = np.empty_like(frames)
    for index in np.ndindex(each.shape):
        data = io.BytesIO()
        image = Image.fromarray(frames[index])
        image.save(data, "jpeg", quality=round(float(each[index])), subsampling="4:2:0")
        out[index] = Image.open(data)
    return out


def h264(
    frames: UInt8[np.ndarray, "t h w 3"],
    crf: int | None = None,
    bitrate: float | None = None,
    fps: int = 24,
    preset: str = "medium",
) -> UInt8[np.ndarray, "t h w 3"]:
    """Encodes a clip as H.264 (x264 without macroblock tree) and decodes it.

    Args:
        frames: (t, h, w, 3) RGB uint8, of any size.
        crf: constant rate factor, 0 (best) to 51; either this or bitrate.
        bitrate: bits per second.
        fps: frames per second that the bit rate refers to.
        preset: speed of x264, "ultrafast" to "placebo".

    Returns:
        (t, h, w, 3) uint8. One thread encodes, so that the result does not depend on the cores.

    Raises:
        TypeError: frames are not uint8.
        ValueError: frames of another shape, both or neither of crf and bitrate, or out of range.
        InputError: PyAV is not installed.
    """
    if (crf is None) == (bitrate is None):
        raise ValueError(f"set either crf or bitrate, got {crf} and {bitrate}")
    if crf is not None and not 0 <= crf <= 51:
        raise ValueError(f"crf must be in 0..51, got {crf}")
    # For small frames x264's macroblock tree reads uninitialized memory, and one clip gave several
    # results.
    options = {"mbtree": "0", "preset": preset} | ({} if crf is None else {"crf": str(crf)})
    return _compress(frames, "libx264", options, bitrate, fps)


def mpeg4(
    frames: UInt8[np.ndarray, "t h w 3"], bitrate: float, fps: int = 24
) -> UInt8[np.ndarray, "t h w 3"]:
    """Encodes a clip as MPEG-4 part 2 and decodes it; arguments and errors as for `h264`."""
    return _compress(frames, "mpeg4", {}, bitrate, fps)


def _compress(
    frames: np.ndarray, codec: str, options: dict[str, str], bitrate: float | None, fps: int
) -> np.ndarray:
    frames = np.asarray(frames)
    check_clip(frames)
    if bitrate is not None and not positive(bitrate):
        raise ValueError(f"bitrate must be positive, got {bitrate}")
    av = require_av()
    # 4:2:0 chroma needs even sizes: the border is repeated, and cropped again.
    h, w = frames.shape[1:3]
    even = np.pad(frames, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), "edge")
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width = even.shape[1:3]
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1, fps)
    encoder.framerate = Fraction(fps)
    encoder.options = options
    encoder.thread_count = 1  # rate control depends on the number of threads
    if bitrate is not None:
        encoder.bit_rate = round(bitrate)
    packets = []
    for number, frame in enumerate(even):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts = number
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create("h264" if codec == "libx264" else codec, "r")
    pictures = [picture for packet in [*packets, None] for picture in decoder.decode(packet)]
    if len(pictures) != len(frames):
        raise RuntimeError(f"{codec} decoded {len(pictures)} of {len(frames)} frames")
    return np.stack([picture.to_ndarray(format="rgb24") for picture in pictures])[:, :h, :w]
