"""An output that is written piece by piece, so that a run that was broken off can go on.

A segment is a number of frames that are coded for themselves; it counts once its list (.json) is
there, which is written last. The folder of segments lies beside the output.
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
from PIL import Image

from jaxvsr.errors import InputError
from jaxvsr.video.encoder import Coding, Encoder

ALL = range(2**31)  # numbers of segments


class Part(Protocol):
    """A segment that is being written."""

    def add(self, pixels: np.ndarray, number: int) -> None:
        """Takes the next frame, (h, w, 3), and its number in the video."""

    def close(self) -> list:
        """Writes what is left; gives what the list says of its contents."""


class PacketsPart:
    """Coded packets, one after the other; [number of the frame, is a key frame, bytes] of each."""

    def __init__(self, path: pathlib.Path, coding: Coding) -> None:
        self._encoder, self._file, self._list = Encoder(coding), path.open("wb"), list[list]()

    def add(self, pixels: np.ndarray, number: int) -> None:
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


class ImagesPart:
    """Images, numbered as the frames are."""

    def __init__(self, folder: pathlib.Path, suffix: str, quality: int, height: int) -> None:
        self._folder, self._suffix, self._quality, self._height = folder, suffix, quality, height
        self._names = list[str]()

    def add(self, pixels: np.ndarray, number: int) -> None:
        image = Image.fromarray(pixels)
        if self._height:
            size = round(image.width * self._height / image.height), self._height
            image = image.resize(size, Image.Resampling.LANCZOS)
        name = f"{number:08d}{self._suffix}"
        image.save(self._folder / name, quality=self._quality)
        self._names.append(name)

    def close(self) -> list:
        return self._names


class Work:
    """The folder of an output that is not whole yet.

    Attributes:
        folder: where it is.
        asked: what a run that goes on has to ask for, too; as JSON has it.
        chosen: what the run that began chose by itself, and one that goes on takes over.
        share: numbers of the segments that are ours to write; hosts may share a folder.
        before: frames of the segments before those.
        counts: frames of each of our segments that is whole.
    """

    def __init__(
        self, output: pathlib.Path, asked: dict[str, Any], share: range = ALL, before: int = 0
    ) -> None:
        """Names the folder, and makes none.

        Args:
            output: the file or folder to be.
            asked, share, before: see the class.
        """
        self.folder = output.with_name(output.name + ".parts")
        self.asked = json.loads(json.dumps(asked))
        self.chosen: dict[str, Any] = {}
        self.share, self.before = share, before
        self.counts: list[int] = []

    @property
    def done(self) -> int:
        """Number of the frame after the segments that are whole."""
        return self.before + sum(self.counts)

    @property
    def next(self) -> int:
        """Number of the segment after those that are whole."""
        return self.share.start + len(self.counts)

    @property
    def exists(self) -> bool:
        """Whether a run has begun."""
        return (self.folder / "settings.json").exists()

    def begin(self) -> None:
        """Makes the folder, in the place of that of a run before.

        Raises:
            InputError: there is one of something else, or none can be made.
        """
        if self.folder.exists() and not self.exists:
            raise InputError(f"{self.folder} is in the way, and not ours: move it, or remove it")
        with explained(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            self.save()

    def save(self) -> None:
        """Writes down what was asked for and chosen."""
        text = json.dumps({"asked": self.asked, "chosen": self.chosen}, indent=2)
        _write_whole(self.folder / "settings.json", text)

    def resume(self) -> None:
        """Goes on with what is there.

        Raises:
            InputError: that was asked for otherwise; says how.
        """
        there = json.loads((self.folder / "settings.json").read_text())
        differ = [
            f"  {name}: {there['asked'].get(name)!r} there, {value!r} asked for"
            for name, value in self.asked.items()
            if there["asked"].get(name) != value
        ]
        if differ:
            raise InputError(
                f"{self.folder} was begun otherwise, and cannot be gone on with:\n"
                + "\n".join(differ)
                + "\nAsk for what is there, or start anew with --overwrite."
            )
        self.chosen = there["chosen"]
        while self.next in self.share and self._path(self.next, "json").exists():
            self.counts.append(len(self._list(self.next)["times"]))

    def write(
        self,
        frames: Iterable[tuple[int, np.ndarray, Any]],
        open_part: Callable[[pathlib.Path], Part],
        size: int,
    ) -> None:
        """Writes segments until there are no more frames.

        Args:
            frames: from number `done` on: the time of each, its pixels, and the network's state
                after it or None.
            open_part: begins a segment, whose path is given.
            size: frames of a segment.

        Raises:
            InputError: the disk is full.
        """
        times: list[int] = []
        part: Part | None = None
        with explained(self.folder):
            for time, pixels, state in frames:
                if part is None:
                    part, times = open_part(self._path(self.next, "packets")), []
                part.add(pixels, self.done + len(times))
                times.append(time)
                if len(times) == size:
                    self._close(part, times, state)
                    part = None
            if part is not None:
                self._close(part, times, None)

    def state(self, like: Any) -> Any:
        """The network's state after the last segment, None where the video ends with it; `like` is
        a tree of the same structure."""
        path = self._path(self.next - 1, "npz")
        if not path.exists():
            return None
        leaves, structure = jax.tree.flatten(like)
        with np.load(path) as file:
            found = [file[f"arr_{i}"].view(leaf.dtype) for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, found)

    def packets(self) -> Iterator[tuple[int, bool, bytes]]:
        """Of each coded packet: the number of its frame, whether it is a key frame, itself."""
        first = 0
        for i, count in enumerate(self.counts):
            with self._path(i, "packets").open("rb") as file:
                for number, key, size in self._list(i)["contents"]:
                    yield first + number, key, file.read(size)
            first += count

    @property
    def delay(self) -> int:
        """How many places later than they are shown frames come among the packets, at most."""
        return max(
            place - number
            for i in range(len(self.counts))
            for place, (number, *_) in enumerate(self._list(i)["contents"])
        )

    def times(self) -> Sequence[int]:
        """Of each frame."""
        return array.array(
            "q", (t for i in range(len(self.counts)) for t in self._list(i)["times"])
        )

    def gather(self, folder: pathlib.Path) -> None:
        """Moves the images of all segments into a folder; may be done again after a stop."""
        folder.mkdir(exist_ok=True)
        for i in range(len(self.counts)):
            for name in self._list(i)["contents"]:
                if (self.folder / name).exists():
                    (self.folder / name).replace(folder / name)

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder)

    def _close(self, part: Part, times: list[int], state: Any) -> None:
        number = self.next
        entry = {"times": times, "contents": part.close()}
        if state is not None:
            with self._path(number, "npz").open("wb") as file:
                np.savez(file, *jax.tree.leaves(state))
        _write_whole(self._path(number, "json"), json.dumps(entry))
        self.counts.append(len(times))
        self._path(number - 1, "npz").unlink(missing_ok=True)

    def _list(self, number: int) -> dict[str, Any]:
        """Of a segment: the times of its frames, and its contents."""
        return json.loads(self._path(number, "json").read_text())

    def _path(self, number: int, suffix: str) -> pathlib.Path:
        return self.folder / f"segment_{number:06d}.{suffix}"


@contextlib.contextmanager
def explained(folder: pathlib.Path) -> Iterator[None]:
    """Turns what the system says of a place that cannot be written into an InputError."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise InputError(
                f"the disk of {folder} is full. What was written is kept: free some space, and go "
                "on with --resume"
            ) from error
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from error


def replace(whole: pathlib.Path, output: pathlib.Path) -> None:
    """Gives a file or folder a name, in the place of what had it."""
    if output.is_dir():
        old = whole.with_name("old")
        output.rename(old)
    whole.rename(output)


def _write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a file that is there whole or not at all, whatever happens."""
    part = path.with_suffix(".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
