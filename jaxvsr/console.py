"""Lines on the terminal: messages and progress, printed by the first process only."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax

Item = TypeVar("Item")


def say(line: str) -> None:
    """Prints a line, on the first of several processes only."""
    if jax.process_index() == 0:
        print(line, flush=True)


def be_silent(line: str) -> None:
    """Drops a line, where a function takes one that receives lines."""


@contextlib.contextmanager
def compiling(what: str, say: Callable[[str], None] = say) -> Iterator[None]:
    """Prints that a program is being compiled, and how long it took.

    Args:
        what: the program, for example "the network for 100 frames of 180x320".
        say: receives the lines.
    """
    say(f"compiling {what}")
    begin = time.perf_counter()
    yield
    say(f"compiled in {time.perf_counter() - begin:.0f} s")


@contextlib.contextmanager
def reporting(line: Callable[[], str], every: float = 10) -> Iterator[None]:
    """Prints lines while the code inside works, also while it waits for one long call.

    Args:
        line: returns the next line; called in another thread.
        every: seconds between two lines.
    """
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(every):
            say(line())

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def work_seconds() -> float:
    """Reads the clock by which two programs are compared.

    On a CPU it is the processor time of this process, since other processes disturb wall time.
    """
    on_cpu = jax.default_backend() == "cpu"
    return time.process_time() if on_cpu else time.perf_counter()


class AnnouncedFunction:
    """A jitted function that prints when it compiles.

    For arguments of new shapes, dtypes or shardings it first compiles, as `compiling`, and then
    runs the compiled program.

    Attributes:
        compile_seconds: time spent on compiling so far.
    """

    def __init__(self, function: Any, describe: Callable[..., str]) -> None:
        """Wraps a function.

        Args:
            function: made by `jax.jit`.
            describe: returns a name of the program, given the function's arguments.
        """
        self.__wrapped__ = function
        self.compile_seconds = 0.0
        self._describe = describe
        self._programs: dict[Any, Any] = {}

    def __call__(self, *args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        key = structure, *((x.shape, x.dtype, getattr(x, "sharding", None)) for x in leaves)
        if key not in self._programs:
            begin = time.perf_counter()
            with compiling(self._describe(*args)):
                self._programs[key] = self.__wrapped__.lower(*args).compile()
            self.compile_seconds += time.perf_counter() - begin
        return self._programs[key](*args)


def counted(
    items: Iterable[Item],
    total: int,
    what: str,
    every: float = 10,
    done: int = 0,
    excluded: Callable[[], float] = lambda: 0.0,
    say: Callable[[str], None] = say,
) -> Iterator[Item]:
    """Passes items through and prints the progress and the time left.

    The clock starts after the first item, during which programs are compiled.

    Args:
        items: to be passed through.
        total: number of items, those before included; 0 if unknown.
        what: name of the items, in the plural.
        every: seconds between two lines.
        done: number of items before the first.
        excluded: seconds so far that do not count, such as those of compiling.
        say: receives the lines.
    """
    begin = said = 0.0
    for new, item in enumerate(items, 1):
        yield item
        now = time.perf_counter() - excluded()
        if new == 1:
            begin = said = now
            continue
        count = done + new
        if now - said >= every and count != total:
            rate = (new - 1) / max(now - begin, 1e-9)
            speed = f"{rate:.2f} {what}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
            left = f"  {clock((total - count) / rate)} left" if total > count else ""
            say(f"{count}{f'/{total}' if total else ''} {what}  {speed}{left}")
            said = now


def clock(seconds: float) -> str:
    """Formats a duration as h:mm:ss."""
    left = round(seconds)
    return f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
