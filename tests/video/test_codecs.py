"""What counts as a lossy video."""

import pytest
import videos

from jaxvsr.video.codecs import lossy_codec

pytest.importorskip("av")


@pytest.mark.parametrize(
    ("name", "codec", "set_"),
    [
        ("a.mp4", "h264", {"codec": "libx264", "pix_fmt": "yuv420p"}),
        ("a.mp4", "h264", {"codec": "libx264", "pix_fmt": "yuv444p"}),
        ("a.mp4", "mpeg4", {"codec": "mpeg4", "pix_fmt": "yuv420p"}),
        ("a.webm", "vp9", {"codec": "libvpx-vp9", "pix_fmt": "yuv420p"}),
        ("a.avi", "mjpeg", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
        ("a.mkv", "", {"codec": "ffv1", "pix_fmt": "bgr0"}),
        ("a.avi", "", {"codec": "huffyuv", "pix_fmt": "yuv422p"}),
        ("a.mov", "", {"codec": "qtrle", "pix_fmt": "rgb24"}),
        ("a.gif", "", {"codec": "gif", "pix_fmt": "rgb8"}),
        ("a.mov", "", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
        ("a.mp4", "", {"codec": "libx264", "pix_fmt": "yuv420p", "options": {"qp": "0"}}),
        ("a.mp4", "", {"codec": "libx264rgb", "pix_fmt": "rgb24", "options": {"qp": "0"}}),
    ],
)
def test_what_counts_as_lossy(tmp_path, name, codec, set_):
    assert lossy_codec(videos.write(tmp_path / name, videos.blocks(2), **set_)) == codec
