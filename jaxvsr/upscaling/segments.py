"""The segments in which an output is written, so that an interrupted run can be resumed.

A segment is a run of frames that is encoded independently. It is complete once its list (.json)
exists, which is written last. The folder of segments lies beside the output.
"""

import array
import contextlib
import errno
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jaxvsr.errors import InputError
from jaxvsr.files import write_text
from jaxvsr.video.encoding import Encoder, Encoding
from jaxvsr.video.images import resize_image, write_image
from jaxvsr.video.writing import Packet, reorder_delay

ALL_SEGMENTS = range(2**31)


class SegmentWriter(Protocol):
    """Writes one segment."""

    def add(self, pixels: np.ndarray, index: int) -> None:
        """Adds the next frame, (h, w, 3), and its index in the output."""

    def close(self) -> list:
        """Finishes the segment; returns the contents for its list, as JSON has them."""


class PacketWriter:
    """Writes encoded packets one after the other; lists [frame index, is key frame, bytes]."""

    def __init__(self, path: pathlib.Path, encoding: Encoding) -> None:
        self._encoder, self._file, self._list = Encoder(encoding), path.open("wb"), list[list]()

    def add(self, pixels: np.ndarray, index: int) -> None:
        self._write(self._encoder.encode(pixels))

    def close(self) -> list:
        self._write(self._encoder.flush())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._list

    def _write(self, packets: Any) -> None:
        for packet in packets:
            self._list.append([packet.pts, packet.is_keyframe, packet.size])
            self._file.write(bytes(packet))


class ImageWriter:
    """Writes images named after their frame index; lists the names.

    Attributes:
        folder: that receives the images.
        suffix: ".png" or ".jpg".
        quality: of JPEG, 1 to 100.
        height: of the images, by resizing; 0: that of the frames.
    """

    def __init__(self, folder: pathlib.Path, suffix: str, quality: int, height: int) -> None:
        self._folder, self._suffix, self._quality, self._height = folder, suffix, quality, height
        self._names = list[str]()

    def add(self, pixels: np.ndarray, index: int) -> None:
        if self._height:
            pixels = resize_image(pixels, self._height)
        name = f"{index:08d}{self._suffix}"
        write_image(self._folder / name, pixels, self._quality)
        self._names.append(name)

    def close(self) -> list:
        return self._names


class SegmentFolder:
    """The folder of an unfinished output.

    Attributes:
        folder: its path.
        settings: that a resumed run must repeat, as JSON has them.
        choices: settings that the first run chose automatically, which a resumed run takes.
        own: indices of the segments that this process writes; hosts may share a folder.
        before: number of frames in the segments before these.
        counts: number of frames of each complete segment in `own`.
    """

    def __init__(
        self,
        output: pathlib.Path,
        settings: dict[str, Any],
        own: range = ALL_SEGMENTS,
        before: int = 0,
    ) -> None:
        """Derives the folder's path and creates nothing.

        Args:
            output: the finished file or folder.
            settings, own, before: see the class.
        """
        self.folder = output.with_name(output.name + ".parts")
        self.settings = json.loads(json.dumps(settings))
        self.choices: dict[str, Any] = {}
        self.own, self.before = own, before
        self.counts: list[int] = []

    @property
    def done(self) -> int:
        """Index of the first frame that is not in a complete segment."""
        return self.before + sum(self.counts)

    @property
    def next(self) -> int:
        """Index of the first segment that is not complete."""
        return self.own.start + len(self.counts)

    @property
    def exists(self) -> bool:
        """Whether a run has started here."""
        return (self.folder / "settings.json").exists()

    def create(self) -> None:
        """Creates the folder and replaces that of an earlier run.

        Raises:
            InputError: the path holds something else, or is not writable.
        """
        if self.folder.exists() and not self.exists:
            raise InputError(
                f"{self.folder} is in the way and was not written by jaxvsr: move or remove it"
            )
        with explain_os_errors(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            self.save_settings()

    def save_settings(self) -> None:
        """Writes `settings` and `choices`."""
        text = json.dumps({"settings": self.settings, "choices": self.choices}, indent=2)
        write_text(self.folder / "settings.json", text)

    def resume(self) -> None:
        """Reads the choices and the complete segments of an earlier run.

        Raises:
            InputError: that run had other settings; the message lists them.
        """
        saved = json.loads((self.folder / "settings.json").read_text())
        earlier = saved.get("settings", {})
        differences = [
            f"  {name}: {earlier.get(name)!r} then, {value!r} now"
            for name, value in self.settings.items()
            if earlier.get(name) != value
        ]
        if differences:
            raise InputError(
                f"{self.folder} was written with other settings, and cannot be resumed:\n"
                + "\n".join(differences)
                + "\nRepeat the earlier settings, or start anew with --overwrite."
            )
        self.choices = saved["choices"]
        while self.next in self.own and self._path(self.next, "json").exists():
            self.counts.append(len(self._list(self.next)["times"]))

    def write(
        self,
        frames: Iterable[tuple[int, np.ndarray, Any]],
        open_segment: Callable[[pathlib.Path], SegmentWriter],
        size: int,
    ) -> None:
        """Writes segments until the frames end.

        Args:
            frames: from index `done` on: time, pixels, and the network's state after it or None.
            open_segment: opens a segment with the given path.
            size: frames per segment.

        Raises:
            InputError: the disk is full.
        """
        times: list[int] = []
        segment: SegmentWriter | None = None
        with explain_os_errors(self.folder):
            for time, pixels, state in frames:
                if segment is None:
                    segment, times = open_segment(self._path(self.next, "packets")), []
                segment.add(pixels, self.done + len(times))
                times.append(time)
                if len(times) == size:
                    self._close(segment, times, state)
                    segment = None
            if segment is not None:
                self._close(segment, times, None)

    def state(self, like: Any) -> Any:
        """Reads the network's state after the last complete segment.

        Args:
            like: tree of the same structure.

        Returns:
            The state, or None where the video ends with that segment.
        """
        path = self._path(self.next - 1, "npz")
        if not path.exists():
            return None
        leaves, structure = jax.tree.flatten(like)
        with np.load(path) as file:
            found = [file[f"arr_{i}"].view(leaf.dtype) for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, found)

    def packets(self) -> Iterator[Packet]:
        """Yields the packets of all segments in decoding order."""
        first = 0
        for i, count in enumerate(self.counts):
            with self._path(i, "packets").open("rb") as file:
                for index, key, size in self._list(i)["contents"]:
                    yield first + index, key, file.read(size)
            first += count

    @property
    def delay(self) -> int:
        """The largest `reorder_delay` of the segments."""
        return max(
            reorder_delay(index for index, *_ in self._list(i)["contents"])
            for i in range(len(self.counts))
        )

    def times(self) -> Sequence[int]:
        """Returns the time of each frame."""
        return array.array(
            "q", (t for i in range(len(self.counts)) for t in self._list(i)["times"])
        )

    def move_images(self, folder: pathlib.Path) -> None:
        """Moves the images of all segments into a folder; may be repeated after an interruption."""
        folder.mkdir(exist_ok=True)
        for i in range(len(self.counts)):
            for name in self._list(i)["contents"]:
                if (self.folder / name).exists():
                    (self.folder / name).replace(folder / name)

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder)

    def _close(self, segment: SegmentWriter, times: list[int], state: Any) -> None:
        index = self.next
        entry = {"times": times, "contents": segment.close()}
        if state is not None:
            with self._path(index, "npz").open("wb") as file:
                np.savez(file, *jax.tree.leaves(state))
        write_text(self._path(index, "json"), json.dumps(entry))
        self.counts.append(len(times))
        self._path(index - 1, "npz").unlink(missing_ok=True)

    def _list(self, index: int) -> dict[str, Any]:
        """The "times" of a segment's frames, and its "contents"."""
        return json.loads(self._path(index, "json").read_text())

    def _path(self, index: int, suffix: str) -> pathlib.Path:
        return self.folder / f"segment_{index:06d}.{suffix}"


@contextlib.contextmanager
def explain_os_errors(folder: pathlib.Path) -> Iterator[None]:
    """Turns errors of the system about a folder that cannot be written into InputErrors."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise InputError(
                f"the disk of {folder} is full. Finished segments are kept: free some space and "
                "resume with --resume"
            ) from error
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from error


def move_into_place(finished: pathlib.Path, output: pathlib.Path) -> None:
    """Renames a file or folder to the output's name, and replaces what had that name."""
    if output.is_dir():
        output.rename(finished.with_name("old"))
    finished.rename(output)
