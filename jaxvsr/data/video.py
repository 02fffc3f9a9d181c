"""Frames of video files, by PyAV, which `pip install 'jaxvsr[video]'` brings."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
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


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    """PyAV's container of a file; its errors name the file."""
    try:
        import av
    except ImportError as error:
        raise InputError(f"{path} needs PyAV: pip install 'jaxvsr[video]'") from error
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise ValueError(f"{path} holds no video")
            yield container
    except av.error.FFmpegError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is not a video, or damaged: {error}") from error
