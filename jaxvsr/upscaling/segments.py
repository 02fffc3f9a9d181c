"""The segments in which an output is written, so that an interrupted run can be resumed.

A segment is a run of frames that is encoded independently. It is complete once its list (.json)
exists, which is written last and holds the digests of its files. The folder of segments lies
beside the output. Its settings.json records whether the output is joined; from then on only the
last step is left, which replaces the old output by the new one. After a kill at any step the
folder shows the steps that are left.
"""

import array
import contextlib
import dataclasses
import errno
import json
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jaxvsr.errors import InputError
from jaxvsr.files import digest, sync_file, sync_folder
from jaxvsr.locks import locked
from jaxvsr.upscaling.records import DamagedFile, read_record, verify, write_record
from jaxvsr.video.encoding import Encoder, Encoding
from jaxvsr.video.images import Picture, resize_image, resize_plane, write_picture
from jaxvsr.video.writing import Packet, reorder_delay

ALL_SEGMENTS = range(2**31)
# Names in a folder of segments; a folder with other files is somebody else's.
OWN_NAMES = re.compile(
    r"\..*|lock|settings\.json|segment_\d{6}\..*|whole(\..*)?|old|test\..*|\d{8}\..*"
)
FULL = (errno.ENOSPC, errno.EDQUOT)


class SegmentWriter(Protocol):
    """Writes one segment."""

    def add(self, picture: Picture, index: int) -> None:
        """Adds the next frame and its index in the output."""

    def close(self) -> tuple[list, list[pathlib.Path]]:
        """Finishes the segment; returns its contents as JSON has them, and its files."""


class PacketWriter:
    """Writes encoded packets one after the other; lists [frame index, is key frame, bytes]."""

    def __init__(self, path: pathlib.Path, encoding: Encoding) -> None:
        self._encoder, self._path, self._list = Encoder(encoding), path, list[list]()
        self._file = path.open("wb")

    def add(self, picture: Picture, index: int) -> None:
        self._write(self._encoder.encode(picture.pixels))

    def close(self) -> tuple[list, list[pathlib.Path]]:
        self._write(self._encoder.flush())
        self._file.close()
        return self._list, [self._path]

    def _write(self, packets: Any) -> None:
        for packet in packets:
            self._list.append([packet.pts, packet.is_keyframe, packet.size])
            self._file.write(bytes(packet))


class ImageWriter:
    """Writes images named after their frame index; lists the names.

    Attributes:
        place: returns the path of the image of a frame index; its suffix names the format.
        quality: of JPEG and WebP, 1 to 100.
        height: of the images, by resizing; 0: that of the frames.
    """

    def __init__(self, place: Callable[[int], pathlib.Path], quality: int, height: int) -> None:
        self._place, self._quality, self._height = place, quality, height
        self._paths = list[pathlib.Path]()

    def add(self, picture: Picture, index: int) -> None:
        pixels, alpha = picture.pixels, picture.alpha
        if self._height:
            pixels = resize_image(pixels, self._height)
        if alpha is not None:
            alpha = resize_plane(alpha, pixels.shape[:2])
        resized = dataclasses.replace(picture, pixels=pixels, alpha=alpha)
        self._paths.append(write_picture(self._place(index), resized, self._quality))

    def close(self) -> tuple[list, list[pathlib.Path]]:
        return [path.name for path in self._paths], self._paths


class SegmentFolder:
    """The folder of an unfinished output.

    Attributes:
        folder: its path.
        output: the finished file or folder.
        settings: that a resumed run must repeat, as JSON has them.
        choices: settings that the first run chose automatically, which a resumed run takes.
        own: indices of the segments that this process writes; hosts may share a folder.
        before: number of frames in the segments before these.
        counts: number of frames of each complete segment in `own`.
        damage: what `resume` found wrong with the first segment that is not in `counts`; or "".
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
            output, settings, own, before: see the class.
        """
        self.output = output
        self.folder = output.with_name(output.name + ".parts")
        self.settings = json.loads(json.dumps(settings))
        self.choices: dict[str, Any] = {}
        self.own, self.before = own, before
        self.counts: list[int] = []
        self.damage = ""

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

    @property
    def whole(self) -> pathlib.Path:
        """Where the output is joined; for images, where they are from the start."""
        return self.folder / f"whole{self.output.suffix}"

    @property
    def joined(self) -> bool:
        """Whether all segments have been joined."""
        try:
            return bool(read_record(self.folder / "settings.json")["joined"])
        except DamagedFile:
            return False

    @property
    def finished(self) -> bool:
        """Whether the joined output is here or has got its name."""
        return self.joined and (self.whole.exists() or self.output.exists())

    @property
    def placed(self) -> bool:
        """Whether the output has got its name, and only `remove` is left to do."""
        return self.finished and not self.whole.exists()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Creates the folder, and keeps other processes out of it; removes it if it is empty.

        Raises:
            InputError: another process writes this output, the path holds something that was not
                written here, or is not writable.
        """
        if self.folder.exists() and not (
            self.folder.is_dir()
            and all(OWN_NAMES.fullmatch(path.name) for path in self.folder.iterdir())
        ):
            raise InputError(
                f"{self.folder} is in the way and was not written by jaxvsr: move or remove it"
            )
        with contextlib.ExitStack() as stack:
            stack.callback(self._remove_if_empty)
            with self.explained():
                stack.enter_context(locked(self.folder / "lock", f"writing {self.output}"))
            yield

    def create(self) -> None:
        """Replaces the contents of an earlier run.

        Raises:
            InputError: the folder is not writable.
        """
        with self.explained():
            if self.joined and not self.output.exists():
                self.place()  # the earlier output is already moved out of the way
            self._clear()
            self.save_settings()

    def save_settings(self, joined: bool = False) -> None:
        """Writes `settings`, `choices`, and whether the output is joined."""
        write_record(
            self.folder / "settings.json",
            {"settings": self.settings, "choices": self.choices, "joined": joined},
        )

    def resume(self) -> None:
        """Reads the choices and the complete segments of an earlier run, and verifies them.

        A `finished` run is not read.

        Raises:
            InputError: that run had other settings; the message lists them.
        """
        saved = self._saved()
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
        self.counts, self.damage = [], ""
        if self.finished:
            return
        try:
            while self.next in self.own and self._path(self.next, "json").exists():
                self.counts.append(self._verified(self.next))
        except DamagedFile as error:
            self.damage = str(error)
        try:
            if self.counts:
                self._verify_state(self.next - 1)
        except DamagedFile as error:  # all is computed again
            self.damage, self.counts = self.damage or str(error), []

    def write(
        self,
        frames: Iterable[tuple[int, Picture, Any]],
        open_segment: Callable[[pathlib.Path], SegmentWriter],
        size: int,
    ) -> None:
        """Writes segments until the frames end.

        Args:
            frames: from index `done` on: time, picture, and the network's state after it or None.
            open_segment: opens a segment with the given path.
            size: frames per segment.

        Raises:
            InputError: the disk is full.
        """
        times: list[int] = []
        segment: SegmentWriter | None = None
        for time, picture, state in frames:
            with self.explained():
                if segment is None:
                    self._path(self.next, "json").unlink(missing_ok=True)  # of a damaged one
                    segment, times = open_segment(self._path(self.next, "packets")), []
                segment.add(picture, self.done + len(times))
                times.append(time)
                if len(times) == size:
                    self._close(segment, times, state)
                    segment = None
        if segment is not None:
            with self.explained():
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

    def remove_other_images(self) -> None:
        """Removes images that belong to no complete segment."""
        listed = {name for i in range(len(self.counts)) for name in self._list(i)["contents"]}
        for path in self.whole.iterdir():
            if path.name not in listed:
                path.unlink()

    def place(self) -> None:
        """Replaces the old output by the joined one; may be repeated after an interruption."""
        if not self.whole.exists():
            return
        if self.output.is_dir():  # which cannot be replaced in one step
            old = self.folder / "old"
            if old.exists():
                shutil.rmtree(old)
            self.output.rename(old)
        self.whole.replace(self.output)
        sync_folder(self.output.parent)

    def remove(self) -> None:
        """Removes everything; `held` removes the folder itself."""
        with self.explained():
            for path in self._contents():
                if path.name != "settings.json":  # identifies the others
                    _remove(path)
            (self.folder / "settings.json").unlink(missing_ok=True)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turns errors of the system about files that cannot be written into InputErrors."""
        try:
            yield
        except OSError as error:
            kept = (
                f"{self.done - self.before} finished frames are kept; continue with --resume"
                if self.counts
                else "Then start again"
            )
            if error.errno in FULL:
                reason = "its disk is full: free some space"
            else:
                reason = f"{error.strerror or error}: fix that"
            raise InputError(f"{self.folder} cannot be written: {reason}. {kept}") from error

    def _saved(self) -> dict[str, Any]:
        """What `save_settings` wrote."""
        try:
            return read_record(self.folder / "settings.json")
        except DamagedFile as error:
            raise InputError(f"{error}: start anew with --overwrite, without --resume") from error

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _clear(self) -> None:
        """Removes everything but the lock, settings.json first, which identifies the others."""
        (self.folder / "settings.json").unlink(missing_ok=True)
        for path in self._contents():
            _remove(path)

    def _contents(self) -> list[pathlib.Path]:
        """Paths of everything but the lock."""
        return sorted(path for path in self.folder.iterdir() if path.name != "lock")

    def _close(self, segment: SegmentWriter, times: list[int], state: Any) -> None:
        index = self.next
        contents, files = segment.close()
        entry = {"times": times, "contents": contents, "state": state is not None}
        if state is not None:
            files = [*files, self._path(index, "npz")]
            with files[-1].open("wb") as file:
                np.savez(file, *jax.tree.leaves(state))
        for path in files:
            sync_file(path)
        for folder in {path.parent for path in files}:
            sync_folder(folder)
        entry["digests"] = {str(path.relative_to(self.folder)): digest(path) for path in files}
        write_record(self._path(index, "json"), entry)
        self.counts.append(len(times))
        self._path(index - 1, "npz").unlink(missing_ok=True)

    def _verified(self, index: int) -> int:
        """Verifies a segment, except for its state; returns its number of frames."""
        entry = self._list(index)
        state = self._path(index, "npz").name
        for name, expected in entry["digests"].items():
            if name != state:
                verify(self.folder / name, expected)
        return len(entry["times"])

    def _verify_state(self, index: int) -> None:
        """Verifies the network's state after a segment."""
        entry, path = self._list(index), self._path(index, "npz")
        if entry["state"]:
            verify(path, entry["digests"][path.name])

    def _list(self, index: int) -> dict[str, Any]:
        """A segment's list: "times" of its frames, "contents", "state", "digests"."""
        return read_record(self._path(index, "json"))

    def _path(self, index: int, suffix: str) -> pathlib.Path:
        return self.folder / f"segment_{index:06d}.{suffix}"


def _remove(path: pathlib.Path) -> None:
    """Removes a file or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
