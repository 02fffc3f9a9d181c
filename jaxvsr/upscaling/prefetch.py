"""A pipeline stage in a thread of its own, which works a few items ahead of the next stage."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """Iterates over items that a thread computes ahead of time, up to a number of them.

    Attributes:
        starved: seconds that the consumer waited for items.
        blocked: seconds that the thread waited for space in the queue.
    """

    def __init__(self, items: Iterable[Item], depth: int) -> None:
        """Creates the thread, which starts with the iteration.

        Args:
            items: computed in the thread. Their exceptions are raised in the consumer.
            depth: size of the queue.
        """
        self.starved = self.blocked = 0.0
        self._items = items
        self._queue: queue.Queue = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._produce, daemon=True)

    def __enter__(self) -> Iterator[Item]:
        """Starts the thread; returns the items."""
        self._thread.start()
        return self._items_in_order()

    def __exit__(self, *error: object) -> None:
        """Stops the thread and waits for its end: nothing may compute when the process ends."""
        self._stopped.set()
        self._thread.join()

    def _items_in_order(self) -> Iterator[Item]:
        while True:
            begin = time.perf_counter()
            item, error, last = self._take()
            self.starved += time.perf_counter() - begin
            if error is not None:
                raise error
            if last:
                return
            yield item
            del item  # frees the memory for the next item

    def _take(self) -> tuple:
        """The next entry of the queue; the last one if the thread has been stopped."""
        while not self._stopped.is_set():
            try:
                return self._queue.get(timeout=0.1)
            except queue.Empty:
                continue
        return None, None, True

    def _produce(self) -> None:
        # An iterator must be closed in the thread that runs it.
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
        """Adds an entry to the queue; returns False once the consumer has stopped."""
        begin = time.perf_counter()
        while not self._stopped.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
            except queue.Full:
                continue
            self.blocked += time.perf_counter() - begin
            return True
        return False
