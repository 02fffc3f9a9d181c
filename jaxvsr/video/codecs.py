"""Whether the codec of a video is lossy."""

import pathlib

from jaxvsr.video.demuxing import open_container, video_stream

# Codecs for editing, whose loss is hardly visible.
EDITING = ("cfhd", "dnxhd", "prores")
# Of H.264: without loss (qp=0) x264 writes this profile, whatever the pixel format. It is also that
# of lossy video in these formats, which therefore count as lossy.
LOSSLESS_PROFILE, LOSSY_FORMATS = "High 4:4:4 Predictive", ("yuv444p", "yuvj444p", "yuv444p10le")


def lossy_codec(path: pathlib.Path) -> str:
    """Returns FFmpeg's name of a video's codec if it loses detail; "" for lossless ones.

    Raises:
        InputError: PyAV is not installed, or the file is no video.
    """
    with open_container(path) as container:
        context = video_stream(container).codec_context
        name = context.codec.canonical_name
        lossless = context.profile == LOSSLESS_PROFILE and context.pix_fmt not in LOSSY_FORMATS
        spared = name in EDITING or lossless
        return name if context.codec.lossy and not spared else ""
