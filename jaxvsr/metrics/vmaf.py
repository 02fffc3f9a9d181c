"""VMAF, computed by FFmpeg's filter libvmaf."""

import functools
import importlib.util
import json
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np
from jaxtyping import Float64

from jaxvsr.metrics.color import Frames, convert, crop_border
from jaxvsr.metrics.threads import check_clips

LEAST = 32  # height and width
# Both clips come as one, sr above gt.
FILTER = (
    "split[both][again];[both]crop=iw:ih/2:0:0[sr];[again]crop=iw:ih/2:0:ih/2[gt];"
    "[sr][gt]libvmaf=log_fmt=json:log_path=scores.json"
)


def vmaf(sr: Frames, gt: Frames, crop: int = 0) -> Float64[np.ndarray, " t"]:
    """VMAF of each frame, by the model vmaf_v0.6.1.

    The model reads luma: BT.601's in studio swing, rounded to 8 bits.

    Args:
        sr, gt: (t, h, w, 3) RGB, uint8, or float in [0, 1], which is rounded to 8 bits; at least
            32x32.
        crop: width of the border removed on all four sides, pixels.

    Returns:
        (t,) float64 in the range 0..100; higher is better. The motion between frames of gt counts,
        so the scores of a clip's part differ from those of the clip.

    Raises:
        ImportError: there is no FFmpeg with libvmaf.
        ValueError: different sizes, or frames that FFmpeg cannot compare.

    Source: Li et al., "Toward a practical perceptual video quality metric", 2016.
    """
    check_clips(sr, gt)
    if sr.ndim != 4:
        raise ValueError(f"frames have shape {sr.shape}; VMAF expects (t, h, w, 3)")
    program = ffmpeg_with_vmaf()
    if program is None:
        raise ImportError("VMAF needs an FFmpeg with libvmaf: pip install 'jaxvsr[vmaf]'")
    sr, gt = (crop_border(x, crop) for x in (sr, gt))
    height, width = sr.shape[1:3]
    if min(height, width) < LEAST:  # for the four scales of its features
        raise ValueError(
            f"frames of {height}x{width} are too small; VMAF expects at least {LEAST}x{LEAST}"
        )
    words = [program, "-loglevel", "error", "-f", "rawvideo", "-pixel_format", "yuv444p"]
    words += ["-video_size", f"{width}x{2 * height}", "-i", "pipe:0"]
    words += ["-lavfi", FILTER, "-f", "null", "-"]
    grey = np.full((2, 2 * height, width), 128, np.uint8).tobytes()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder)
        assert process.stdin
        try:
            with process.stdin as pipe:
                for both in zip(sr, gt, strict=True):
                    pipe.write(np.concatenate([_luma(x) for x in both]).tobytes() + grey)
        except BrokenPipeError:
            pass  # it ended early, and says why
        finally:
            code = process.wait()
        if code:
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines()
            raise ValueError(f"FFmpeg cannot compare the frames: {said[-1] if said else code}")
        frames = json.loads((pathlib.Path(folder) / "scores.json").read_bytes())["frames"]
    return np.array([frame["metrics"]["vmaf"] for frame in frames])


def _luma(frame: np.ndarray) -> np.ndarray:
    """Rounds BT.601's luma of (h, w, 3) to (h, w) uint8."""
    return np.rint(convert(frame, "y")[..., 0]).astype(np.uint8)


@functools.cache
def ffmpeg_with_vmaf() -> str | None:
    """Finds an FFmpeg with libvmaf: on the path, or in the package imageio-ffmpeg."""
    programs = [shutil.which("ffmpeg")]
    if importlib.util.find_spec("imageio_ffmpeg"):
        import imageio_ffmpeg

        programs.append(imageio_ffmpeg.get_ffmpeg_exe())
    for program in filter(None, programs):
        filters = subprocess.run([program, "-hide_banner", "-filters"], capture_output=True)
        if b" libvmaf " in filters.stdout:
            return program
    return None
