"""Frames of video files, by PyAV, which `pip install 'jaxvsr[video]'` brings."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxvsr.errors import InputError

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm", ".y4m")


@dataclasses.dataclass(frozen=True)
class VideoFrames:
    """The frames of the first video stream of a file, as RGB."""

    path: pathlib.Path

    def check(self) -> tuple[int, int, int]:
        """(t, h, w). Packets are counted, and no more than the first frame is decoded.

        Raises:
            InputError: PyAV is not installed.
            FileNotFoundError: there is no such file.
            ValueError: it is no video, or a damaged one.
        """
        size = next(iter(self), np.zeros((0, 0, 3))).shape[:2]
        with _opened(self.path) as container:
            length = sum(packet.size > 0 for packet in container.demux(video=0))
        if not all((length, *size)):
            raise ValueError(f"{self.path} holds no frames")
        return length, *size

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each (h, w, 3) uint8 RGB; raises as `check`."""
        with _opened(self.path) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")


def write_video(path: pathlib.Path, frames: Iterable[np.ndarray], rate: int) -> pathlib.Path:
    """Writes frames (h, w, 3) uint8 as H.264; odd sides lose a row or a column.

    Raises:
        InputError: PyAV is not installed.
    """
    av = _pyav(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.pix_fmt = "yuv420p"
        for i, frame in enumerate(frames):
            even = frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2]
            if i == 0:
                stream.height, stream.width = even.shape[:2]
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def _pyav(path: pathlib.Path) -> Any:
    """PyAV, which a file needs; raises InputError if there is none."""
    try:
        import av
    except ImportError as error:
        raise InputError(f"{path} needs PyAV: pip install 'jaxvsr[video]'") from error
    return av


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    """PyAV's container of a file; its errors name the file."""
    av = _pyav(path)
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise ValueError(f"{path} holds no video")
            yield container
    except av.error.FFmpegError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is not a video, or damaged: {error}") from error
