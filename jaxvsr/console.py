"""Lines on the terminal: messages and progress, printed by the first process only."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax

Item = TypeVar("Item")


def say(line: str) -> None:
    """Prints a line, on the first of several processes only."""
    if jax.process_index() == 0:
        print(line, flush=True)


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


def announce_compiling(function: Any, describe: Callable[..., str]) -> Callable:
    """Makes a jitted function print when it compiles.

    Args:
        function: made by `jax.jit`.
        describe: returns a name of the program, given the function's arguments.

    Returns:
        The same function. For arguments of new shapes, dtypes or shardings it first compiles, as
        `compiling`, and then runs the compiled program.
    """
    programs: dict[Any, Any] = {}

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        key = structure, *((x.shape, x.dtype, getattr(x, "sharding", None)) for x in leaves)
        if key not in programs:
            with compiling(describe(*args)):
                programs[key] = function.lower(*args).compile()
        return programs[key](*args)

    return call


def counted(
    items: Iterable[Item], total: int, what: str, every: float = 10, done: int = 0
) -> Iterator[Item]:
    """Passes items through and prints the progress and the time left.

    The clock starts after the first item, during which programs are compiled.

    Args:
        items: to be passed through.
        total: number of items, those before included; 0 if unknown.
        what: name of the items, in the plural.
        every: seconds between two lines.
        done: number of items before the first.
    """
    begin = said = 0.0
    for new, item in enumerate(items, 1):
        yield item
        now = time.perf_counter()
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
