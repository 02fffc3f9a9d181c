"""Kills at chosen file-system steps: from then on nothing more is written, as after SIGKILL."""

import contextlib
import os
import sys

STEPS = {"os.mkdir", "os.rmdir", "os.remove", "os.rename"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Killed(BaseException):
    """Stands for SIGKILL."""


class Killer:
    """Counts the file-system steps below a folder, and kills at one of them.

    Attributes:
        steps: that were done.
        dead: whether the process has been killed.
    """

    def __init__(self):
        self._folder, self._at, self.steps, self.dead = "", None, [], False
        sys.addaudithook(self._hook)  # cannot be removed again

    @contextlib.contextmanager
    def watching(self, folder, at=None):
        """Counts steps, and kills at the one with the index `at`."""
        self._folder, self._at, self.steps, self.dead = str(folder), at, [], False
        try:
            yield self
        finally:
            self._folder = ""

    def _hook(self, event, args):
        if not self._folder or not (event in STEPS or event == "open"):
            return
        path = args[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return
        writes = event != "open" or bool(args[2] & WRITING)
        inside = str(path).startswith(self._folder) or not os.path.isabs(path)
        if not (writes and inside):
            return
        if not self.dead and len(self.steps) != self._at:
            self.steps.append((event, str(path)))
            return
        if not self.dead and event == "open":  # opened, and killed before the first byte
            self.dead = True
            self._torn(path, args[2])
        self.dead = True
        raise Killed

    def _torn(self, path, flags):
        if flags & os.O_CREAT:
            folder, self._folder = self._folder, ""
            with open(path, "wb") as file:
                file.write(b"half")
            self._folder = folder
