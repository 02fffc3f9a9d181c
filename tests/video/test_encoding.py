"""The choice of an encoding."""

import pathlib
from fractions import Fraction

import pytest

from jaxvsr.errors import InputError
from jaxvsr.video.encoding import EncoderOptions, choose_encoding

pytest.importorskip("av")


def choose(name, source="yuv420p", size=(48, 64), **options):
    return choose_encoding(
        pathlib.Path(name), EncoderOptions(**options), size, Fraction(25), source
    )


@pytest.mark.parametrize(
    ("name", "source", "options", "codec", "pixel_format"),
    [
        ("a.mp4", "yuv420p", {}, "libx264", "yuv420p"),
        ("a.mp4", "yuv422p", {}, "libx264", "yuv422p"),
        ("a.mp4", "yuv420p10le", {}, "libx265", "yuv420p10le"),
        ("a.webm", "yuv420p", {}, "libvpx-vp9", "yuv420p"),
        ("a.mkv", "rgb24", {}, "libx264", "yuv420p"),
        ("a.mkv", "gray", {}, "libx264", "yuv420p"),
        ("a.mp4", "yuv420p", {"lossless": True}, "libx264rgb", "rgb24"),
        ("a.mp4", "rgb48le", {"lossless": True}, "libx265", "gbrp10le"),
        ("a.mkv", "yuv420p", {"pixel_format": "yuv444p"}, "libx264", "yuv444p"),
    ],
)
def test_defaults_follow_the_suffix_and_the_source(name, source, options, codec, pixel_format):
    encoding = choose(name, source, **options)
    assert (encoding.codec, encoding.pixel_format) == (codec, pixel_format)


def test_options_of_the_encoder():
    assert choose("a.mp4").options == {"crf": "18"}
    assert choose("a.mp4", crf=30, options=(("preset", "slow"),)).options == {
        "crf": "30",
        "preset": "slow",
    }
    assert choose("a.webm").options == {"crf": "24", "b": "0"}


def test_sizes_are_even_where_chroma_is_subsampled():
    assert choose("a.mp4", size=(47, 33)).size == (46, 32)
    assert choose("a.mp4", "yuv444p", size=(47, 33)).size == (47, 33)
    assert choose("a.mp4", "yuv422p", size=(47, 33)).size == (47, 32)
    assert choose("a.mp4", size=(48, 64), height=75).size == (74, 100)


def test_errors_name_the_option():
    with pytest.raises(InputError, match="--codec=prores_ks cannot store RGB|has no lossless mode"):
        choose("a.mov", codec="prores_ks", lossless=True)
    with pytest.raises(InputError, match="--crf is not an option of ffv1"):
        choose("a.mkv", codec="ffv1", crf=10)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.MKV", "libx264"),
        ("a.WEBM", "libvpx-vp9"),
        ("a.Mp4", "libx264"),
        ("a.MTS", "libx264"),
        ("a.ogv", "libvpx"),
        ("a.mxf", "mpeg2video"),
        ("a.mpg", "mpeg2video"),
        ("a.wmv", "wmv2"),
    ],
)
def test_capitals_and_rarer_containers(name, codec):
    assert choose(name).codec == codec


def test_frames_are_not_reordered_where_their_times_are_not_stored():
    assert choose("a.avi").options["bf"] == "0" and "bf" not in choose("a.mp4").options
    assert "bf" not in choose("a.avi", codec="ffv1").options
