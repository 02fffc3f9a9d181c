"""Command lines: first words, help, overrides, errors and exit codes."""

import dataclasses
import importlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from absl import flags

import jaxvsr
from jaxvsr import cli
from jaxvsr.errors import InputError


def run(*words, cwd=None):
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def made_up(seen, **fields):
    """A command that notes what it is called with."""
    values = flags.FlagValues()
    cli.define_config(values)
    flags.DEFINE_integer("count", 3, "How many", lower_bound=1, flag_values=values)
    flags.DEFINE_bool("fast", False, "Whether it hurries", flag_values=values)
    flags.DEFINE_list("parts", ["a", "b"], "Which", flag_values=values)
    text = "Does a thing.\n\n    jaxvsr thing --config=x A\n"

    def main(value, *arguments):
        seen.append((value, *arguments))

    return cli.Command(text, main, values, **fields)


@pytest.mark.parametrize(
    "words",
    [
        ["--config=a.py:tiny", "--config.train.steps=7", "in", "--count=2"],
        ["--config", "a.py:tiny", "-config.train.steps", "7", "--count", "2", "in"],
        ["in", "-config=a.py:tiny", "--config.train.steps=7", "-count=2"],
    ],
)
def test_flags_take_their_value_after_an_equals_sign_or_a_space(words):
    seen = []
    assert cli.run_command(made_up(seen, arguments=("INPUT",)), words) == 0
    ((value, argument),) = seen
    assert argument == "in" and value["overrides"] == {"train.steps": "7"}
    assert (value["config"], value["count"], value["fast"]) == ("a.py:tiny", 2, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--config is missing. Example:\n    jaxvsr thing --config=x A"),
        (["--config=x"], "INPUT missing. Example:\n    jaxvsr thing"),
        (["--config=x", "a", "b"], "unexpected argument 'b'; set a field"),
        (["--config=x", "a", "--config.steps"], "--config.steps needs a value"),
        (["--config=x", "a", "--count=0"], "--count=0"),
        (
            ["--config=x", "a", "--conut=1"],
            "Unknown command line flag 'conut'. Did you mean: count",
        ),
    ],
)
def test_a_wrong_command_line_is_explained_and_nothing_is_run(words, message, capsys):
    seen = []
    command = made_up(seen, required=("config",), arguments=("INPUT",), failure=2)
    assert cli.run_command(command, words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and not seen


def test_errors_of_the_user_end_in_a_line_and_others_in_a_traceback(capsys):
    def fail(error):
        def main(value):
            raise error

        return cli.Command("Fails.", main, flags.FlagValues())

    assert cli.run_command(fail(InputError("no such file")), []) == 1
    assert capsys.readouterr().err == "error: no such file\n"
    with pytest.raises(ZeroDivisionError):
        cli.run_command(fail(ZeroDivisionError()), [])


def test_the_exit_code_is_the_commands():
    command = cli.Command("Fits?", lambda value: 1, flags.FlagValues(), failure=2)
    assert cli.run_command(command, []) == 1


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command_starts_with_examples(name):
    done = run("jaxvsr", name, "--help")
    assert done.returncode == 0 and not done.stderr
    first, empty, example = done.stdout.splitlines()[:3]
    assert first.endswith(".") and not empty and example.startswith("    jaxvsr ")
    assert "\nFlags:\n" in done.stdout and "\n  --" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "loading" not in done.stdout and "helpfull" not in done.stdout


@pytest.mark.parametrize("module", ["main", "upscale", "convert", "profile"])
def test_every_module_with_a_fixed_name_is_a_command(module):
    done = run(f"jaxvsr.{module}", "--help")
    assert done.returncode == 0 and "\nFlags:\n" in done.stdout


def test_the_overview():
    done = run("jaxvsr", "--help")
    assert done.returncode == 0
    assert all(f"    jaxvsr {name} " in done.stdout for name in cli.COMMANDS)
    assert run("jaxvsr").stdout == done.stdout
    assert run("jaxvsr", "--version").stdout == f"jaxvsr {jaxvsr.__version__}\n"
    done = run("jaxvsr", "trian")
    assert done.returncode == 1
    assert done.stderr == "error: unknown command 'trian'; did you mean 'train'?\n"


@pytest.mark.parametrize("words", [["jaxvsr", "train"], ["jaxvsr.upscale"]])
def test_the_first_words_come_at_once(words):
    """Before JAX and TensorFlow are imported, which takes seconds."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    seconds = time.monotonic() - start
    process.communicate()
    assert line.startswith(f"jaxvsr {jaxvsr.__version__} ") and line.endswith("loading libraries\n")
    assert seconds < 5  # alone on a machine a third of a second


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_help_ends_quietly_where_nobody_reads_it(words):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "jaxvsr", *words]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_the_package_or_the_entry_loads_nothing_heavy():
    """The processes that read data import the main module again."""
    code = (
        "import sys, jaxvsr.main, jaxvsr.__main__; "
        "print([m for m in ('jax', 'tensorflow', 'ml_collections') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_public_modules_are_imported_on_first_use():
    code = (
        "import sys, jaxvsr; before = 'jaxvsr.models' in sys.modules; "
        "print(before, jaxvsr.models.create('swrn').scale, 'metrics' in dir(jaxvsr))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False 4 True"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        jaxvsr.nothing  # noqa: B018


SLOW = """
import ctypes, sys, time
from absl import flags
from jaxvsr import cli
def main(value):
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        if sys.argv[1] == "slowly":
            print("stopping", flush=True)
            ctypes.CDLL(None).sleep(60)
def command(name):
    values = flags.FlagValues()
    return cli.Command("Waits.", main, values, after_interruption="continue with --resume")
if __name__ == "__main__":
    cli.start("slow", "__main__", [])
"""


def started(tmp_path, *words):
    """A command in a process of its own, that has begun its work."""
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, str(tmp_path / "slow.py"), *words]
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[1])}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    assert "loading libraries" in process.stdout.readline()
    return process


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "SIGTERM")]
)
def test_signals_end_a_command_with_a_line(tmp_path, number, said):
    process = started(tmp_path, "fast")
    assert process.stdout.readline() == "working\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert error == f"{said}: continue with --resume\n"
    assert process.returncode == 128 + number


def test_a_second_interrupt_ends_at_once(tmp_path):
    """Even while the main thread is inside a library."""
    process = started(tmp_path, "slowly")
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    # The signal also wakes the main thread, whose own line may come first.
    assert "interrupted" in error and "Traceback" not in error
    assert process.returncode == 128 + signal.SIGINT


def test_a_signal_while_libraries_are_loaded():
    command = [sys.executable, "-m", "jaxvsr", "upscale", "a", "b"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "loading libraries" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert error == "interrupted\n" and process.returncode == 128 + signal.SIGINT


def test_errors_of_the_system_name_the_file(capsys):
    def main(value):
        raise OSError(28, "No space left on device", "/data/run/metrics.jsonl")

    assert cli.run_command(cli.Command("Fails.", main, flags.FlagValues()), []) == 1
    error = capsys.readouterr().err
    assert error == "error: /data/run/metrics.jsonl: No space left on device; start again\n"


# String flags that are no paths. (--preset, --config of data and so on.)
NO_PATHS = {
    *("mode", "group", "size", "dtype", "topology", "preset", "start", "end", "fps", "codec"),
    *("pix_fmt", "images", "compare", "tile", "coordinator", "clips"),
}


@pytest.mark.parametrize("name", [*cli.COMMANDS, "main"])
def test_a_tilde_in_a_path_is_the_home_folder(name, monkeypatch, tmp_path):
    """In every flag of every command, and in arguments."""
    monkeypatch.setenv("HOME", str(tmp_path))
    module = importlib.import_module(cli.COMMANDS.get(name, "jaxvsr.main"))
    command, seen = module.command(name), []
    command = dataclasses.replace(command, main=lambda *values: seen.append(values))
    paths = [flag for flag in command.flags if isinstance(command.flags[flag].parser, cli.Path)]
    texts = {flag for flag in command.flags if command.flags[flag].flag_type() == "string"}
    assert texts - set(paths) <= NO_PATHS | ({"config"} if name == "data" else set())
    words = [f"--{flag}=~/a" for flag in paths] + ["~/b"] * len(command.arguments)
    words += [f"--{flag}=a" for flag in command.required if flag not in paths]
    assert cli.run_command(command, words) == 0
    ((values, *arguments),) = seen
    assert {str(values[flag]) for flag in paths} <= {f"{tmp_path}/a", f"['{tmp_path}/a']"}
    assert set(arguments) <= {f"{tmp_path}/b"} and paths
