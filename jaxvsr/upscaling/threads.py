"""A stage of a pipeline in a thread of its own, a few items ahead of the next one."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Ahead(Generic[Item]):
    """Items that a thread makes before they are asked for, a bounded number of them.

    Attributes:
        starved: seconds that the taker waited for items.
        blocked: seconds that the maker waited for room.
    """

    def __init__(self, items: Iterable[Item], depth: int) -> None:
        """Starts the thread, as late as the first item is asked for.

        Args:
            items: to be made; what they raise is raised by whoever takes them.
            depth: how many may wait.
        """
        self.starved = self.blocked = 0.0
        self._items = items
        self._queue: queue.Queue = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._make, daemon=True)

    def __iter__(self) -> Iterator[Item]:
        """The items; to leave the loop early stops the thread."""
        self._thread.start()
        try:
            while True:
                begin = time.perf_counter()
                item, error, last = self._queue.get()
                self.starved += time.perf_counter() - begin
                if error is not None:
                    raise error
                if last:
                    return
                yield item
                del item  # the next may take the memory
        finally:
            self._stopped.set()
            self._thread.join()

    def _make(self) -> None:
        # An iterator is closed where it runs.
        items = iter(self._items)
        try:
            for item in items:
                if not self._put((item, None, False)):
                    break
            else:
                self._put((None, None, True))
        except BaseException as error:
            self._put((None, error, True))
        finally:
            getattr(items, "close", lambda: None)()

    def _put(self, entry: tuple) -> bool:
        """Whether there was room, before nobody wanted it any more."""
        begin = time.perf_counter()
        while not self._stopped.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
            except queue.Full:
                continue
            self.blocked += time.perf_counter() - begin
            return True
        return False
