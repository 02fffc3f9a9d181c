"""Lines on the terminal."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr import console


@pytest.fixture
def take(monkeypatch):
    """Lets time pass, which else stands still."""
    now = 0.0

    def pass_by(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr("time.perf_counter", lambda: now)
    return pass_by


def test_the_time_left_does_not_count_the_first_item_which_compiles(take, capsys):
    def items():
        take(300)
        yield "a"
        for item in "bcd":
            take(20)
            yield item

    assert list(console.counted(items(), 4, "clips")) == list("abcd")
    assert capsys.readouterr().out.splitlines() == [
        "2/4 clips  20.0 s each  0:00:40 left",
        "3/4 clips  20.0 s each  0:00:20 left",
    ]


def test_the_time_left_does_not_count_what_compiles_later(take, capsys):
    compiled = 0.0

    def items():
        nonlocal compiled
        take(20)
        yield "a"
        take(20 + 300)
        compiled += 300
        yield "b"
        take(20)
        yield "c"

    items_left = console.counted(items(), 3, "clips", excluded=lambda: compiled)
    assert list(items_left) == list("abc")
    assert capsys.readouterr().out.splitlines() == ["2/3 clips  20.0 s each  0:00:20 left"]


def test_lines_come_at_most_every_few_seconds(take, capsys):
    for _ in console.counted(range(100), 100, "frames", every=10):
        take(0.5)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0] == "21/100 frames  2.00 frames/s  0:00:40 left"


def test_items_that_were_done_before_and_an_unknown_total(take, capsys):
    for _ in console.counted(range(3), 0, "frames", every=1, done=40):
        take(2)
    assert capsys.readouterr().out.splitlines() == [
        "42 frames  2.0 s each",
        "43 frames  2.0 s each",
    ]


def test_a_function_says_when_it_compiles(capsys):
    traces = []

    @jax.jit
    def double(x):
        traces.append(x.shape)
        return 2 * x

    function = console.AnnouncedFunction(double, lambda x: f"for {x.size} numbers")
    for x in (np.ones(3), np.ones(3) * 5, np.ones(4), np.ones(4, np.int32), jnp.ones(3)):
        np.testing.assert_array_equal(function(x), 2 * x)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "compiling for 3 numbers" and lines[2] == "compiling for 4 numbers"
    assert all(line.startswith("compiled in ") and line.endswith(" s") for line in lines[1::2])
    assert len(lines) == 8  # an array on a device may lie elsewhere
    assert traces == [(3,), (4,), (4,)]


def test_a_program_that_does_not_compile_is_not_said_to_be_compiled(capsys):
    with pytest.raises(ZeroDivisionError), console.compiling("a program"):
        raise ZeroDivisionError
    assert capsys.readouterr().out == "compiling a program\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00:00"), (59.6, "0:01:00"), (3661, "1:01:01"), (9e5, "250:00:00")],
)
def test_clock(seconds, text):
    assert console.clock(seconds) == text


def test_lines_are_printed_while_one_call_takes_long(capsys):
    came = threading.Event()

    def line():
        came.set()
        return "so far"

    with console.reporting(line, every=0.001):
        assert came.wait(60)
    assert capsys.readouterr().out.startswith("so far\n")
    with console.reporting(line):  # it ends at once
        pass
    assert not capsys.readouterr().out
