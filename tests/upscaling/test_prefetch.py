"""Prefetching in a thread."""

import threading
import time

import pytest

from jaxvsr.upscaling.prefetch import Prefetch


def test_items_are_in_order_and_few_are_computed_ahead():
    made = []

    def items():
        for i in range(10):
            made.append(i)
            yield i

    stage = Prefetch(items(), 2)
    found = []
    for item in stage:
        found.append(item)
        time.sleep(0.005)
        assert len(made) <= len(found) + 4  # two queued, one waiting, one just taken
    assert found == list(range(10))
    assert stage.blocked > 0


def test_errors_are_raised_in_the_consumer():
    def items():
        yield 1
        raise ValueError("broken")

    taken = iter(Prefetch(items(), 2))
    assert next(taken) == 1
    with pytest.raises(ValueError, match="broken"):
        next(taken)


def test_leaving_early_stops_the_thread_and_closes_the_items():
    closed = threading.Event()
    threads = threading.active_count()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    stage = iter(Prefetch(items(), 2))
    next(stage)
    stage.close()
    assert closed.is_set() and threading.active_count() == threads


def test_slow_items_starve_the_consumer():
    def items():
        for i in range(3):
            time.sleep(0.02)
            yield i

    stage = Prefetch(items(), 2)
    assert list(stage) == [0, 1, 2]
    assert stage.starved > 0.04
