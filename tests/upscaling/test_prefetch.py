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
    with stage as taken:
        for item in taken:
            found.append(item)
            time.sleep(0.005)
            assert len(made) <= len(found) + 4  # two queued, one waiting, one just taken
    assert found == list(range(10))
    assert stage.blocked > 0


def test_errors_are_raised_in_the_consumer():
    def items():
        yield 1
        raise ValueError("broken")

    with Prefetch(items(), 2) as taken:
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

    with pytest.raises(OSError, match="full"), Prefetch(items(), 2) as taken:
        for _ in taken:
            raise OSError("full")
    assert closed.is_set() and threading.active_count() == threads


def test_two_stages_stop_although_the_inner_one_is_stuck():
    threads, waits = threading.active_count(), threading.Event()

    def items():
        yield 0
        waits.wait(0.3)  # a slow reader
        yield 1

    with (
        pytest.raises(KeyboardInterrupt),
        Prefetch(items(), 2) as read,
        Prefetch((x for x in read), 2) as computed,
    ):
        for _ in computed:
            raise KeyboardInterrupt
    assert threading.active_count() == threads


def test_slow_items_starve_the_consumer():
    def items():
        for i in range(3):
            time.sleep(0.02)
            yield i

    stage = Prefetch(items(), 2)
    with stage as taken:
        assert list(taken) == [0, 1, 2]
    assert stage.starved > 0.04
