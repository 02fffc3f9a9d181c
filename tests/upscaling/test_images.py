"""Upscaling of images: what is kept, single images, names of folders, and resumed folders."""

import os
import shutil

import numpy as np
import pytest
import videos
from PIL import Image, ImageCms
from videos import LOSSLESS, larger, upscale

from jaxvsr import cli, presets
from jaxvsr import upscale as program
from jaxvsr.errors import InputError
from jaxvsr.upscaling import segments
from jaxvsr.upscaling.pipeline import upscale_file
from jaxvsr.upscaling.request import Request
from jaxvsr.video.encoding import EncoderOptions
from jaxvsr.video.images import Picture, read_image, read_picture, write_image, write_picture

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
OTHER_PROFILE = PROFILE.replace(b"s\0R\0G\0B", b"m\0i\0n\0e").replace(b"sRGB", b"mine")


def transparent(dtype=np.uint8, profile=b""):
    """A picture of blocks, whose left half is transparent."""
    white = np.iinfo(dtype).max
    pixels = videos.blocks(1)[0].astype(dtype) * (white // 255)
    alpha = np.full(pixels.shape[:2], white, dtype)
    alpha[:, :32] = white // 3
    return Picture(pixels, alpha, profile)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_alpha_and_profile_are_kept_in_a_folder(tmp_path, suffix, capsys):
    for i in range(2):
        write_picture(tmp_path / "in" / f"{i}.png", transparent(profile=OTHER_PROFILE))
    upscale(tmp_path / "in", tmp_path / "out", images=suffix, segment=1)
    for i in range(2):
        found = read_picture(tmp_path / "out" / f"{i:08d}.{suffix}")
        assert found.profile == OTHER_PROFILE and found.alpha.shape == (96, 128)
        assert (found.alpha[:, :60] == 85).all() and (found.alpha[:, 68:] == 255).all()
        if suffix != "webp":
            np.testing.assert_array_equal(found.pixels, larger(videos.blocks(1))[0])
    assert "composed" not in capsys.readouterr().out


def test_alpha_of_16_bits_is_kept_and_resized(tmp_path):
    write_picture(tmp_path / "in" / "0.png", transparent(np.uint16))
    upscale(tmp_path / "in", tmp_path / "out", encoder=EncoderOptions(height=72))
    found = read_picture(tmp_path / "out" / "00000000.png")
    assert found.alpha.dtype == np.uint16 and found.alpha.shape == (72, 96)
    assert (found.alpha[:, :44] == 21845).all() and (found.alpha[:, 52:] == 65535).all()


def test_edges_have_no_fringe_of_the_color_under_transparency(tmp_path):
    """By a network that mixes neighboring pixels."""
    pixels, alpha = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
    pixels[:, 32:], alpha[:, 32:] = (200, 60, 40), 255
    write_picture(tmp_path / "a.png", Picture(pixels, alpha))
    model, variables, _ = presets.load(presets.DEFAULT)
    upscale_file(tmp_path / "a.png", tmp_path / "b.png", model, variables, Request(), {})
    found = read_picture(tmp_path / "b.png")
    visible = found.pixels[8:-8, :-8][found.alpha[8:-8, :-8] > 0].astype(int)
    assert np.abs(visible - (200, 60, 40)).max() <= 4


@pytest.mark.parametrize("output", ["b.mkv", "jpegs", "b.bmp", "compared"])
def test_alpha_is_composed_on_black_where_it_cannot_be_kept(tmp_path, output, capsys):
    source = write_picture(tmp_path / "in" / "0.png", transparent(profile=OTHER_PROFILE))
    request = {"jpegs": {"images": "jpg", "quality": 100}, "compared": {"compare": "split"}}
    request["b.mkv"] = {"encoder": LOSSLESS}
    source = source if output == "b.bmp" else source.parent
    video = upscale(source, tmp_path / output, **request.get(output, {}))
    if output == "b.mkv":
        pixels = video.frames[0]
    else:
        written = tmp_path / output
        pixels = read_image(written if written.is_file() else next(written.iterdir()))
    expected = larger(videos.blocks(1))[0].astype(int)
    expected[:, :64] = (expected[:, :64] + 1) // 3
    inner = np.r_[0:60, 68:128]
    assert np.abs(pixels.astype(int) - expected)[:, inner].mean() < 2
    said = capsys.readouterr().out
    assert said.count("transparent parts are composed on black") == 1
    lost = output in ("b.mkv", "b.bmp")
    assert said.count("ICC profiles are not kept; colors may look different") == lost


def test_a_usual_profile_is_left_out_of_a_video_silently(tmp_path, capsys):
    opaque = Picture(videos.blocks(1)[0], np.full((48, 64), 255, np.uint8), PROFILE)
    write_picture(tmp_path / "in" / "0.png", opaque)
    upscale(tmp_path / "in", tmp_path / "b.mkv")
    said = capsys.readouterr().out
    assert "ICC" not in said and "composed" not in said


@pytest.mark.parametrize("output", ["b.png", "B.PNG", "b.tif", "b.webp", "b.jpg", "b.BMP"])
@pytest.mark.parametrize("name", ["a.png", "A.PNG", "a.tif"])
def test_a_single_image(tmp_path, name, output):
    write_image(tmp_path / name, videos.blocks(1)[0])
    upscale_to_file(tmp_path / name, tmp_path / output)
    found = read_image(tmp_path / output)
    assert np.abs(found.astype(int) - larger(videos.blocks(1))[0]).mean() < 3
    upscale_to_file(tmp_path / name, tmp_path / output, overwrite=True)
    upscale(tmp_path / name, tmp_path / "folder")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["00000000.png"]


def upscale_to_file(source, output, **request):
    upscale_file(source, output, videos.Repeat(), {}, Request(**request), origin={})


def test_an_interrupted_single_image_is_resumed(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", videos.blocks(1)[0])

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(segments.SegmentFolder, "place", stop)
        upscale_to_file(tmp_path / "a.png", tmp_path / "b.png")
    upscale_to_file(tmp_path / "a.png", tmp_path / "b.png", resume=True)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), larger(videos.blocks(1))[0])


def test_several_images_do_not_fit_one(tmp_path):
    for i in range(2):
        write_image(tmp_path / "in" / f"{i}.png", videos.blocks(1)[0])
    with pytest.raises(InputError, match=r"b\.png is a single image, and .*in is none"):
        upscale(tmp_path / "in", tmp_path / "b.png")


def test_an_animation_stays_one(tmp_path):
    first, *rest = (Image.fromarray(frame) for frame in videos.blocks(3))
    first.save(tmp_path / "a.png", save_all=True, append_images=rest)
    found = upscale(tmp_path / "a.png", tmp_path / "b.mkv", encoder=LOSSLESS)
    np.testing.assert_array_equal(found.frames, larger(videos.blocks(3)))


def test_images_that_a_file_holds_besides_the_first_are_said(tmp_path, capsys):
    first, *rest = (Image.fromarray(frame) for frame in videos.blocks(3))
    (tmp_path / "in").mkdir()
    for name in ("0.tif", "1.tif"):
        first.save(tmp_path / "in" / name, save_all=True, append_images=rest)
    upscale(tmp_path / "in", tmp_path / "out")
    assert capsys.readouterr().out.count("only the first image of each file is read") == 1


@pytest.mark.parametrize("name", ["res v1.2", "res v1.2 final", "plain", "12.5"])
def test_a_dot_in_the_name_of_a_folder_is_no_suffix(tmp_path, name):
    for i, frame in enumerate(videos.blocks(2)):
        write_image(tmp_path / name / f"{i}.png", frame)
    (tmp_path / "out").mkdir()
    upscale_to_file(tmp_path / name, tmp_path / "out" / name)
    upscale_to_file(tmp_path / name, tmp_path / "out" / name, overwrite=True)
    names = [path.name for path in sorted((tmp_path / "out" / name).iterdir())]
    assert names == ["00000000.png", "00000001.png"]
    upscale_to_file(tmp_path / "out" / name, tmp_path / "out" / "b.mkv")


def test_a_slash_makes_a_folder_of_any_name(tmp_path):
    write_image(tmp_path / "in" / "0.png", videos.blocks(1)[0])
    words = [str(tmp_path / "in"), f"{tmp_path / 'my.frames'}{os.sep}"]
    assert cli.run_command(program.command("upscale"), words) == 0
    assert (tmp_path / "my.frames" / "00000000.png").is_file()
    assert cli.run_command(program.command("upscale"), [*words, "--overwrite"]) == 0


def interrupted(source, output, monkeypatch):
    """Upscales a folder until it is stopped after two images."""
    add = segments.ImageWriter.add

    def stopped(self, picture, index):
        if index == 2:
            raise KeyboardInterrupt
        add(self, picture, index)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(segments.ImageWriter, "add", stopped)
        upscale_to_file(source, output, segment=1)


@pytest.mark.parametrize("place", ["out", "in/out"])
def test_a_folder_is_resumed_after_other_files_appeared(tmp_path, place, monkeypatch, capsys):
    """Also where the output lies inside of the input, which changes the input's time."""
    source, output = tmp_path / "in", tmp_path / place
    for i, frame in enumerate(videos.blocks(4)):
        write_image(source / f"{i}.png", frame)
    interrupted(source, output, monkeypatch)
    for name in (".DS_Store", "._1.png", "notes.txt"):
        (source / name).write_text("")
    upscale_to_file(source, output, segment=1, resume=True)
    assert "resuming after 2 frames" in capsys.readouterr().out
    found = [read_image(output / f"{i:08d}.png") for i in range(4)]
    np.testing.assert_array_equal(found, larger(videos.blocks(4)))


def test_a_folder_with_other_images_is_not_resumed(tmp_path, monkeypatch):
    for i, frame in enumerate(videos.blocks(4)):
        write_image(tmp_path / "in" / f"{i}.png", frame)
    interrupted(tmp_path / "in", tmp_path / "out", monkeypatch)
    write_image(tmp_path / "in" / "1.png", videos.blocks(1)[0] // 2)
    with pytest.raises(InputError, match="other settings"):
        upscale_to_file(tmp_path / "in", tmp_path / "out", segment=1, resume=True)


def test_a_preview_does_not_become_a_frame(tmp_path):
    write_image(tmp_path / "in" / "0.png", videos.blocks(1)[0])
    with pytest.raises(InputError, match="--preview would write among the images"):
        upscale(tmp_path / "in", tmp_path / "in" / "out", preview=0)


def pipe(path):
    os.mkfifo(path)


def broken_link(path):
    path.symlink_to("nothing")


@pytest.mark.parametrize(
    ("make", "message"), [(pipe, "1.png is a pipe"), (broken_link, "1.png is a broken link")]
)
def test_an_image_that_is_no_file_is_named(tmp_path, make, message):
    write_image(tmp_path / "in" / "0.png", videos.blocks(1)[0])
    make(tmp_path / "in" / "1.png")
    with pytest.raises(InputError, match=message):
        upscale(tmp_path / "in", tmp_path / "out")
    shutil.rmtree(tmp_path / "in")
    make(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"1.png is a pipe|there is no .*1.png"):
        upscale(tmp_path / "1.png", tmp_path / "out")


def test_a_format_too_small_for_the_output_is_refused_before_the_work(tmp_path):
    write_image(tmp_path / "in" / "0.png", np.zeros((2, 9000, 3), np.uint8))
    with pytest.raises(InputError, match="webp holds up to 16383 rows and columns, .* 18000x4"):
        upscale(tmp_path / "in", tmp_path / "out", images="webp")
