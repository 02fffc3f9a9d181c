"""What a video's codec does to its frames."""

import pathlib

from jaxvsr.video.demuxing import open_container, video_stream

# Codecs for editing, whose loss is hardly visible.
EDITING = ("cfhd", "dnxhd", "prores")
# Of H.264: without loss (qp=0) x264 writes this profile, whatever the pixel format.
LOSSLESS_PROFILE = "High 4:4:4 Predictive"


def lossy_codec(path: pathlib.Path) -> str:
    """Returns FFmpeg's name of a video's codec if it loses detail; "" for lossless ones.

    Raises:
        InputError: PyAV is not installed, or the file is no video.
    """
    with open_container(path) as container:
        context = video_stream(container).codec_context
        name = context.codec.canonical_name
        spared = name in EDITING or context.profile == LOSSLESS_PROFILE
        return name if context.codec.lossy and not spared else ""
