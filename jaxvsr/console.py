"""Lines on the terminal: messages and progress, printed by the first host alone."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import jax

Item = TypeVar("Item")


def say(line: str) -> None:
    """Prints a line, on the first of several hosts alone."""
    if jax.process_index() == 0:
        print(line, flush=True)


def counted(
    items: Iterable[Item], total: int, what: str, every: float = 10, done: int = 0
) -> Iterator[Item]:
    """Hands items through, and says now and then how many there were and how long the rest takes.

    Args:
        items: to be handed through.
        total: how many there will be; 0 if that is not known.
        what: they are, in the plural.
        every: seconds between two lines, at least.
        done: how many there were before.
    """
    begin = said = time.perf_counter()
    for new, item in enumerate(items, 1):
        yield item
        now = time.perf_counter()
        count = done + new
        if now - said >= every and count != total:
            rate = new / (now - begin)
            speed = f"{rate:.2f} {what}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
            left = f"  {clock((total - count) / rate)} left" if total > count else ""
            say(f"{count}{f'/{total}' if total else ''} {what}  {speed}{left}")
            said = now


def clock(seconds: float) -> str:
    """As h:mm:ss."""
    left = round(seconds)
    return f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
