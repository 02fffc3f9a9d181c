"""The commands of a new user, with stand-ins for those that take minutes."""

import dataclasses
import importlib
import sys

import pytest

from benchmarks import newcomer
from jaxvsr import cli


def test_steps_are_timed_and_a_failure_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    code = (
        "import os; open('made', 'w').write(os.environ['HOME'] + os.environ.get('PYTHONPATH', ''))"
    )
    steps = [
        newcomer.Step("write", (sys.executable, "-c", code), "made"),
        newcomer.Step("nothing", (sys.executable, "-c", "pass")),
    ]
    seconds = newcomer.measure(steps, tmp_path)
    assert (tmp_path / "made").read_text() == str(tmp_path)  # a new home, no packages of ours
    rows = [row.split("|")[1:-1] for row in newcomer.table(steps, seconds).splitlines()]
    assert [row[0].strip() for row in rows[2:]] == ["write", "nothing"]
    assert float(rows[3][2]) == pytest.approx(sum(seconds), abs=0.11)
    fails = dataclasses.replace(
        steps[0], command=(sys.executable, "-c", "print(7); raise SystemExit(3)")
    )
    with pytest.raises(RuntimeError, match="write failed with exit code 3:\n7"):
        newcomer.measure([fails], tmp_path)
    with pytest.raises(RuntimeError, match="nothing failed with exit code 0"):
        newcomer.measure([dataclasses.replace(steps[1], makes="missing")], tmp_path)


def test_the_commands_take_their_flags(tmp_path):
    steps = newcomer.plan(tmp_path, "source", "python3", 20, cache=False)
    titles = [step.title for step in steps]
    assert titles[:3] == ["clone", "new environment", "install"]
    assert "--no-cache-dir" in steps[2].command
    for step in steps[3:]:
        name, *words = step.command[1:]
        command = importlib.import_module(cli.COMMANDS[name]).command(name)
        overrides, rest = cli.split_overrides(words)
        command.flags(["jaxvsr", *rest])
        assert bool(overrides) == (name == "train")


def test_without_training_the_way_ends_at_the_first_video(tmp_path):
    steps = newcomer.plan(tmp_path, "source", "python3", 0, cache=True)
    assert steps[-1].makes == "out.mp4"
